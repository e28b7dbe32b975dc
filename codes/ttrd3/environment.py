"""What is installed beside what the checkout pins, and which commit the checkout is at.

Standard library alone, and run as a file too: `python -P codes/ttrd3/environment.py requirements.txt ...` exits with 0
where this Python has every pin of the files and `ttrd3` from this checkout (scripts/env.sh asks it).
"""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout
REQUIREMENTS = ROOT / "requirements.txt"


@dataclass(frozen=True)
class Requirement:
    """One pin `name==expected` and the version that is installed (None: not installed)."""

    name: str
    expected: str
    found: str | None

    @property
    def satisfied(self) -> bool:
        """Whether the pinned version is installed; a build tag as in "2.14.1+cpu" makes no difference, as for pip."""
        return self.found is not None and self.found.split("+")[0] == self.expected


def requirements(file: Path = REQUIREMENTS) -> list[Requirement]:
    """The pins of a requirement file in its order; empty where the file is missing (an installation without checkout).

    Raises:
        ValueError: A line that is neither `name==version`, an option (`-e .`) nor a comment.
    """
    if not file.is_file():
        return []
    pins = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            pin = re.fullmatch(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.!]+)", text)
            if pin is None:
                raise ValueError(f"{file}: found {text!r}, expected name==version")
            pins.append(Requirement(pin.group(1), pin.group(2), _installed(pin.group(1))))
    return pins


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_this_checkout() -> bool:
    """Whether `import ttrd3` takes the code of this checkout, not an installed copy."""
    spec = importlib.util.find_spec("ttrd3")
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().is_relative_to(ROOT)


def cores() -> int:
    """Processor cores that this process may use, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """The checkout's commit, with "-dirty" where tracked files are changed; None outside a git checkout."""
    if not (ROOT / ".git").exists():  # git would report a repository that merely surrounds an installed copy
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    wanted = [pin for name in sys.argv[1:] for pin in requirements(Path(name))]
    sys.exit(not (is_this_checkout() and all(pin.satisfied for pin in wanted)))
