"""What a library of sharp images holds: the files of a folder, or the train and ref tiles of a prepared one."""

import os
from dataclasses import dataclass
from pathlib import Path

from ttrd3.data.images import SUFFIXES
from ttrd3.data.layout import find_tiles, has_split
from ttrd3.data.manifest import MANIFEST, PLAN, SPLITS, read_json
from ttrd3.data.tiling import Box
from ttrd3.errors import DataError

USED = ("train", "ref")  # splits that references may come from
DEFAULT_TILE = 256


@dataclass(frozen=True)
class LibraryFile:
    """One image file.

    Attributes:
        name: Path relative to the library, with "/".
        size: In bytes.
        mtime_ns: Time of the last change in nanoseconds.
        source: The image that it was cut from where that is known, else its own name.
        origin: Left and top of the file in that image, in pixels.
    """

    name: str
    size: int
    mtime_ns: int
    source: str
    origin: tuple[int, int]

    def in_source(self, box: Box) -> Box:
        """A window of the file as a window of the image that it was cut from."""
        x, y = self.origin
        return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def list_library(root: Path) -> tuple[list[LibraryFile], dict[str, str]]:
    """The image files of `root` sorted by name, and name -> problem of those that cannot be used.

    Of a prepared folder it is the HR of train and ref, never of val and test; of any other, all images at any depth.

    Raises:
        DataError: No such folder, no images in it, or a preparation that has not finished.
    """
    if not root.is_dir():
        raise DataError(f"--library: {root} is not a folder. Give a folder of sharp images, or a prepared one.")
    files, problems = [], {}
    for name, (source, origin) in sorted((_prepared(root) if _is_prepared(root) else _walked(root)).items()):
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are not UTF-8
            problems[name] = f"{name!r}: a name that is not UTF-8. Rename the file."
            continue
        try:
            status = (root / name).stat()
        except OSError as error:
            problems[name] = f"{root / name}: cannot be read ({error.strerror}). Mend the link, or remove it."
            continue
        files.append(LibraryFile(name, status.st_size, status.st_mtime_ns, source, origin))
    if not files and not problems:
        raise DataError(f"--library: {root} holds no images; expected {', '.join(sorted(SUFFIXES))} at any depth.")
    return files, problems


def tile_of(root: Path) -> int:
    """Side in pixels of the tiles of a prepared folder, else of those that the paper uses."""
    manifest = read_json(root / MANIFEST)
    return DEFAULT_TILE if manifest is None else int(manifest["options"]["tile"])


def _is_prepared(root: Path) -> bool:
    known = any((root / name).is_file() for name in (MANIFEST, PLAN))
    return known or any(has_split(root, split) for split in SPLITS)


def _prepared(root: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    there = [split for split in USED if has_split(root, split)]
    if not there:
        raise DataError(
            f"--library: {root} is a prepared folder without images in {' or '.join(USED)}; references never come "
            "from val or test. Prepare it with such, or give another folder."
        )
    found = {}
    for split in there:
        for tile in find_tiles(root, split, need_lr=False):
            name = tile.hr.relative_to(root).as_posix()
            found[name] = (name, (0, 0)) if tile.source is None else (tile.source[0], tile.source[1][:2])
    return found


def _walked(root: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    found = {}
    for base, folders, names in os.walk(root, followlinks=True, onerror=_unreadable):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                relative = Path(base, name).relative_to(root).as_posix()
                found[relative] = (relative, (0, 0))
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"--library: {error.filename} cannot be read ({error.strerror}). Allow it.") from error
