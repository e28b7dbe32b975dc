"""Finished tiles until they are put together: in memory, or in a folder from which an interrupted scene goes on.

Values are kept in 16 bits: a step of 1/65535 of the model's range.
"""

import contextlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ttrd3.errors import UserError
from ttrd3.files import Lock, require_free_space, write_text

_LEVELS = 65535
_ABOUT = "about.json"


class TileStore(Protocol):
    """Tiles float32 (C, H, W) in [0, 1] by number."""

    def done(self) -> set[int]:
        """Numbers of the tiles that are there."""

    def put(self, number: int, tile: np.ndarray) -> None:
        """Keep a tile."""

    def get(self, number: int) -> np.ndarray:
        """A tile that is there."""


class MemoryTiles:
    """For images that are small enough."""

    def __init__(self) -> None:
        self._tiles: dict[int, np.ndarray] = {}

    def done(self) -> set[int]:
        """Numbers of the tiles that are there."""
        return set(self._tiles)

    def put(self, number: int, tile: np.ndarray) -> None:
        """Keep a tile."""
        self._tiles[number] = _packed(tile)

    def get(self, number: int) -> np.ndarray:
        """A tile that is there."""
        return _unpacked(self._tiles[number])


class TileFolder:
    """One file with a slot for each tile, and beside it a journal of finished tiles for each process that works.

    A journal line is the tile's number and the CRC-32 of its slot: what a crash left half-written does not count.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], writer: int):
        """Open a folder that `prepare_folder` has made.

        Args:
            folder: Where the files are.
            shape: (C, H, W) of every tile.
            writer: Number of this process, which has a journal of its own.
        """
        self._shape = shape
        self._bytes = 2 * shape[0] * shape[1] * shape[2]
        self._folder = folder
        self._slots = os.open(folder / "tiles.bin", os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = (folder / f"journal-{writer}.txt").open("a", encoding="ascii")

    def done(self) -> set[int]:
        """Numbers of the tiles that any process has finished and that are whole."""
        listed: dict[int, int] = {}
        for path in sorted(self._folder.glob("journal-*.txt")):
            for line in path.read_text(encoding="ascii", errors="replace").splitlines():
                with contextlib.suppress(ValueError):  # a line that a crash cut off
                    number, crc = line.split(" ")
                    listed[int(number)] = int(crc, 16)
        return {number for number, crc in listed.items() if zlib.crc32(self._read(number)) == crc}

    def put(self, number: int, tile: np.ndarray) -> None:
        """Keep a tile."""
        content = _packed(tile).tobytes()
        view, at = memoryview(content), number * self._bytes
        while view:
            written = os.pwrite(self._slots, view, at)
            view, at = view[written:], at + written
        self._journal.write(f"{number} {zlib.crc32(content):08x}\n")
        self._journal.flush()

    def get(self, number: int) -> np.ndarray:
        """A tile that is there."""
        return _unpacked(np.frombuffer(self._read(number), np.uint16).reshape(self._shape))

    def close(self) -> None:
        """Close the files."""
        os.close(self._slots)
        self._journal.close()

    def _read(self, number: int) -> bytes:
        return os.pread(self._slots, self._bytes, number * self._bytes)


def prepare_folder(folder: Path, about: dict[str, Any], needed: int) -> Lock:
    """Make a tile folder, or keep the one that is there if it is of the same work.

    Args:
        folder: To make.
        about: Everything that the tiles depend on.
        needed: Bytes that the work will take on this disk.

    Returns:
        The lock on the folder: to be held while the work goes on.

    Raises:
        UserError: Another process works in it, or there is no space.
    """
    lock = Lock(folder / "lock")
    lock.take(str(folder))
    noted = folder / _ABOUT
    known = json.dumps(about, sort_keys=True)
    try:
        same = noted.is_file() and noted.read_text(encoding="utf-8") == known
        if not same:
            for path in folder.iterdir():
                if path != lock.path:
                    path.unlink()
        there = sum(path.stat().st_size for path in folder.iterdir())
        require_free_space(folder, max(needed - there, 0), f"upscaling to {folder.parent}")
        if not same:
            write_text(noted, known)
    except UserError:
        lock.release()
        if not noted.is_file():
            remove_folder(folder)
        raise
    return lock


def work_of(folder: Path) -> dict[str, Any] | None:
    """What `prepare_folder` was told of the work in a folder; None where there is none."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def remove_folder(folder: Path) -> None:
    """Delete a tile folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _packed(tile: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(tile, 0, 1) * _LEVELS).astype(np.uint16)


def _unpacked(tile: np.ndarray) -> np.ndarray:
    return tile.astype(np.float32) / _LEVELS
