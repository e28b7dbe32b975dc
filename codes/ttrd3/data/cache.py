"""Keeps the decoded images of a split in a folder (pixels.py): makes them once, and anew where they no longer fit."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import __version__ as pillow
from tqdm import tqdm

from ttrd3.data.images import read_rgb, read_size
from ttrd3.data.pixels import Pixels, Stored, UnfitError, mapped
from ttrd3.environment import cores
from ttrd3.errors import DataError, UserError
from ttrd3.files import PARTIAL, replacing, require_free_space

_FORMAT = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the cache of ROOT/SPLIT lies in `folder`."""

    folder: Path
    root: Path
    split: str

    def path(self, suffix: str) -> Path:
        """The file of this cache with `suffix`."""
        digest = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()
        return self.folder / f"{self.split}-{digest[:12]}.{suffix}"

    def header(self) -> dict[str, Any]:
        """What an index must say of itself; another Pillow may decode a JPEG to other pixels."""
        return {"format": _FORMAT, "pillow": pillow, "root": str(self.root.resolve()), "split": self.split}

    def pixels(self, text: bytes, images: dict[str, dict[str, int]]) -> Pixels:
        """The pixels beside the index that reads `text` and lists `images`; may raise UnfitError."""
        stored = {
            str(self.root / name): Stored(entry["offset"], entry["height"], entry["width"])
            for name, entry in images.items()
        }
        return Pixels(self.path("pixels"), _mark(text), stored)


def open_cache(place: Place, paths: Sequence[Path]) -> Pixels | None:
    """The cache of `paths`, which are all images of one split; made first where there is none that fits them.

    Of several processes that need it made one makes it, and the others wait.

    Args:
        place: Where it lies.
        paths: The image files, below the root, each once.

    Returns:
        None, after a warning, where the folder cannot be used.

    Raises:
        DataError: A damaged image, or one of a wrong kind; names the file, and nothing is written.
    """
    try:
        return _opened(place, paths)
    except DataError:
        raise
    except UserError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or place.folder}: {error.strerror or error}"
    logger.warning("no cache of decoded images, so each is decoded every time it is drawn (slower): %s", reason)
    return None


def _opened(place: Place, paths: Sequence[Path]) -> Pixels:
    with contextlib.suppress(UnfitError):
        return _load(place, paths)
    with _only_one(place.path("lock")):
        try:
            return _load(place, paths)  # another process has made it in the meantime
        except UnfitError as reason:
            logger.info("decoding %d images into a cache: %s", len(paths), reason)
        return _make(place, paths)


def _load(place: Place, paths: Sequence[Path]) -> Pixels:
    index = place.path("json")
    try:
        text = index.read_bytes()
    except FileNotFoundError:
        raise UnfitError(f"{index} is not there yet") from None
    mapped(place.path("pixels"), _mark(text))  # proves that the text is an index as `_make` writes it
    header = json.loads(text)
    images = header.pop("images")
    if header != place.header():
        raise UnfitError(f"{index} was made by another version")
    listed = {name: (entry["size"], entry["mtime_ns"]) for name, entry in images.items()}
    found = {_name(place, path): _stamp(path) for path in paths}
    if found != listed:
        changed = sum(found[name] != listed[name] for name in found.keys() & listed.keys())
        added, removed = len(found.keys() - listed.keys()), len(listed.keys() - found.keys())
        raise UnfitError(f"{index} is out of date ({changed} images changed, {added} added, {removed} removed)")
    return place.pixels(text, images)


def _mark(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _name(place: Place, path: Path) -> str:
    return path.relative_to(place.root).as_posix()


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; what decides whether a decoded image is up to date."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Prepare the data again.") from error
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold `lock`, after waiting for whoever holds it; the kernel frees the lock of a process that was killed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for the process that holds %s: it makes the cache of decoded images", lock)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(place: Place, paths: Sequence[Path]) -> Pixels:
    start = time.perf_counter()
    file, index = place.path("pixels"), place.path("json")
    for useless in (index, file, *place.folder.glob(f".{file.stem}.*{PARTIAL}")):  # of the past, or of a killed process
        useless.unlink(missing_ok=True)
    images = _planned(place, paths)
    total = sum(entry["height"] * entry["width"] * 3 for entry in images.values())
    text = json.dumps(place.header() | {"images": images}).encode()
    require_free_space(place.folder, total + len(text), f"the cache of {len(images)} decoded images")
    with replacing(file) as temporary, temporary.open("wb") as target:
        _decode_into(target.fileno(), place.root, images)
        target.seek(total)
        target.write(_mark(text))
    with replacing(index) as temporary:
        temporary.write_bytes(text)
    seconds = time.perf_counter() - start
    logger.info("%s: %d decoded images, %.1f MB, made in %.1f s", file, len(images), total / 1e6, seconds)
    return place.pixels(text, images)


def _planned(place: Place, paths: Sequence[Path]) -> dict[str, dict[str, int]]:
    """The images of the index, from the headers of their files."""
    images, offset = {}, 0
    for path in paths:
        size, mtime_ns = _stamp(path)  # before anything is read: what changes from here on is found out of date later
        width, height = read_size(path)
        entry = {"size": size, "mtime_ns": mtime_ns, "height": height, "width": width, "offset": offset}
        images[_name(place, path)] = entry
        offset += height * width * 3
    return images


def _decode_into(target: int, root: Path, images: dict[str, dict[str, int]]) -> None:
    """Write the pixels of all images to the open file `target`, on all cores: Pillow decodes without Python's lock."""
    bar = tqdm(total=len(images), desc="decoding", unit="image", disable=None)
    # `read_rgb` sets warning filters for a moment, here in threads one over the other: restored when all have ended.
    with warnings.catch_warnings(), bar:
        executor = ThreadPoolExecutor(cores())
        try:
            for _ in executor.map(partial(_decode_one, target, root), images.items()):
                bar.update()
        finally:
            executor.shutdown(cancel_futures=True)  # also after Ctrl-C or a damaged image: the others are not begun


def _decode_one(target: int, root: Path, item: tuple[str, dict[str, int]]) -> None:
    name, entry = item
    image = read_rgb(root / name)
    if image.shape != (entry["height"], entry["width"], 3):
        raise DataError(f"{root / name}: was changed while it was read. Start again when the data are complete.")
    offset, rest = entry["offset"], memoryview(np.ascontiguousarray(image)).cast("B")
    while rest:  # a disk that is nearly full takes a part first
        written = os.pwrite(target, rest, offset)
        offset, rest = offset + written, rest[written:]
