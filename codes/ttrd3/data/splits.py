"""Which split a source image belongs to: by lists, else by a hash of its name, so that it never changes."""

import fnmatch
import hashlib
from pathlib import Path

from ttrd3.data.layout import some
from ttrd3.data.sources import Source
from ttrd3.errors import DataError, UserError

DRAWN = ("val", "test", "ref")  # the rest is train


def read_list(path: Path, option: str) -> list[str]:
    """The lines of a list of names or glob patterns; empty lines and lines that begin with # do not count.

    Raises:
        UserError: The file cannot be read or lists nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: {path} cannot be read ({error}). Give a text file with one name a line.") from error
    patterns = [line for line in lines if line and not line.startswith("#")]
    if not patterns:
        raise UserError(f"{option}: {path} lists nothing. Write one name or pattern a line, relative to the source.")
    return patterns


def assign_splits(sources: list[Source], shares: dict[str, float], lists: dict[str, list[str]]) -> dict[str, str]:
    """Source name -> split.

    Args:
        sources: All source images.
        shares: val, test, ref -> share of the images, drawn by a hash of the name without suffix. A split that has a
            list takes no share.
        lists: val, test, ref -> names, with or without suffix, or glob patterns, in which * also matches "/".

    Raises:
        DataError: A pattern that matches nothing, or an image in two lists.
    """
    splits: dict[str, str] = {}  # of the listed images
    for split, patterns in lists.items():
        chosen = _matches(sources, split, patterns)
        twice = chosen & splits.keys()
        if twice:
            raise DataError(
                f"--{split}-list: {some(twice)} also in --{splits[min(twice)]}-list. An image belongs to one split."
            )
        splits.update(dict.fromkeys(chosen, split))
    drawn = {split: shares[split] for split in DRAWN if split not in lists}
    return {source.name: splits.get(source.name) or _drawn_split(source.stem, drawn) for source in sources}


def _matches(sources: list[Source], split: str, patterns: list[str]) -> set[str]:
    by_name = {source.name: source.name for source in sources} | {source.stem: source.name for source in sources}
    names = [source.name for source in sources]
    chosen: set[str] = set()
    for pattern in patterns:
        if pattern in by_name:
            chosen.add(by_name[pattern])
        elif found := [name for name in names if fnmatch.fnmatchcase(name, pattern)]:
            chosen.update(found)
        else:
            raise DataError(
                f"--{split}-list: {pattern!r} matches no image of the source. Names are relative to the source folder "
                f"(to its hr/ where paired), such as {names[0]!r}."
            )
    return chosen


def _drawn_split(stem: str, shares: dict[str, float]) -> str:
    position = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") / 2**64  # uniform in [0, 1)
    for split, share in shares.items():
        if position < share:
            return split
        position -= share
    return "train"
