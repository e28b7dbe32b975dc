"""Reads decoded images out of memory-mapped files, so that a sample decodes nothing and touches only its windows.

cache.py makes these files and looks after them. For each data root and split there are:
    SPLIT-HASH.pixels  uint8 (H, W, 3) of all images one after another, then the SHA-256 of the index
    SPLIT-HASH.json    the index: path relative to the root -> size and mtime_ns of its file, height, width, offset
    SPLIT-HASH.lock    held (flock) by the process that makes the two; stays, empty
"""

import hashlib
import logging
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttrd3.data.images import read_rgb

_MARK_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


class UnfitError(Exception):
    """Why a cache cannot be used as it lies on the disk; never reaches the user as an error."""


@dataclass(frozen=True)
class Stored:
    """Where the pixels of an image lie in the file."""

    offset: int
    height: int
    width: int

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.height * self.width * 3


class Pixels:
    """The images of one file; picklable, since each process maps the file for itself."""

    def __init__(self, file: Path, mark: bytes, images: dict[str, Stored]):
        """Map `file`; its index has the hash `mark` and lists `images` by `str` of their path. May raise UnfitError."""
        self._file, self._mark, self._images = file, mark, images
        self._bytes: np.ndarray | None = mapped(file, mark)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bytes": None}  # the other process opens the file, instead of being sent gigabytes

    def get(self, path: Path) -> np.ndarray | None:
        """Read-only uint8 (H, W, 3) that lies in the map, or None for an image that is not in this file.

        Raises:
            UnfitError, OSError: This process had not mapped the file yet, and it is gone or was made anew.
        """
        found = self._images.get(str(path))
        if found is None:
            return None
        if self._bytes is None:
            self._bytes = mapped(self._file, self._mark)
        return self._bytes[found.offset : found.end].reshape(found.height, found.width, 3)


def mapped(file: Path, mark: bytes) -> np.ndarray:
    """All bytes of a .pixels file, uint8, read-only.

    Raises:
        UnfitError: It does not end with `mark`, the hash of its index: it is cut short, or another index's.
        OSError: It cannot be opened.
    """
    try:
        with file.open("rb") as opened:
            content = np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    except FileNotFoundError:
        raise UnfitError(f"{file} is not there") from None
    except ValueError:  # nothing to map
        raise UnfitError(f"{file} is empty") from None
    if content[-_MARK_BYTES:].tobytes() != mark:
        raise UnfitError(f"{file} is damaged, or does not belong to its index")
    return content


class CachedImages:
    """Reads images as `read_rgb` does: out of the caches that hold them, else from their files; picklable."""

    def __init__(self, caches: Sequence[Pixels]):
        self._caches = list(caches)

    def __call__(self, path: Path) -> np.ndarray:
        """Read-only uint8 (H, W, 3); of a cached image only what is looked at is fetched from the disk.

        Raises:
            DataError: An image that is not cached is damaged or of a wrong kind; names the file.
        """
        for cache in tuple(self._caches):
            try:
                image = cache.get(path)
            except (
                UnfitError,
                OSError,
            ) as error:  # in a worker that started after another training made the cache anew
                logger.warning("images are decoded each time they are drawn, which is slower: %s", error)
                self._caches.remove(cache)
                continue
            if image is not None:
                return image
        return read_rgb(path)
