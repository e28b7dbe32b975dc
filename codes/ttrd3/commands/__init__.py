"""One thin module a command of `ttrd3`; none of them holds logic."""
