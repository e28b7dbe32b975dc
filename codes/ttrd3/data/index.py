"""The file that `ttrd3 index` writes: which tiles a library holds, what they look like, and what tells them apart.

It is a safetensors file (no pickle): a table of files as JSON, a row per tile in parallel arrays, a SHA-256 over all.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ttrd3.data.hashes import Fingerprint
from ttrd3.data.library import LibraryFile
from ttrd3.data.tiling import Box
from ttrd3.errors import DataError
from ttrd3.files import replacing

FORMAT = 1
MADE_BY = "ttrd3 index"
CHUNK = 8192  # rows of descriptors in memory at a time

_ABOUT = "ttrd3-index"
_COLUMNS = ("file", "box", "exact", "perceptual", "structured")


@dataclass(frozen=True)
class Header:
    """What all tiles of an index have in common.

    Attributes:
        root: Folder of the library.
        tile: Side of a tile in pixels.
        stride: Distance between the tiles of one image.
        kind: Which descriptor, see `Descriptor.kind`.
        standardized: See `Descriptor.standardized`.
        weights: File of the descriptor's weights, where it has such.
        left_out: Name -> problem of files that could not be used (--skip-bad).
        holes: Name -> number of windows that are left out, because not all of their pixels have data; None: nobody
            looked, because the index is older than that.
    """

    root: str
    tile: int
    stride: int
    kind: str
    standardized: bool
    weights: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    holes: dict[str, int] | None = None


@dataclass(frozen=True)
class Tiles:
    """A row per tile.

    Attributes:
        file: int32 (N,), number of its file.
        box: int32 (N, 4), left, top, right, bottom in the file.
        exact: uint8 (N, 32), SHA-256 of the pixels.
        perceptual: uint64 (N,), meaningless where not `structured`.
        structured: bool (N,), whether there is a perceptual hash (`Fingerprint.perceptual`).
    """

    file: np.ndarray
    box: np.ndarray
    exact: np.ndarray
    perceptual: np.ndarray
    structured: np.ndarray

    def __len__(self) -> int:
        return len(self.file)

    def fingerprint(self, row: int) -> Fingerprint:
        """What tells tile `row` from others."""
        perceptual = int(self.perceptual[row]) if self.structured[row] else None
        return Fingerprint(self.exact[row].tobytes().hex(), perceptual)

    def window(self, row: int) -> Box:
        """The box of tile `row`."""
        left, top, right, bottom = self.box[row].tolist()
        return left, top, right, bottom

    def taken(self, rows: np.ndarray) -> "Tiles":
        """These rows, by number or mask."""
        return Tiles(*(getattr(self, column)[rows] for column in _COLUMNS))


def tile_rows(file: int, boxes: list[Box], prints: list[Fingerprint]) -> Tiles:
    """The rows of some tiles of one file."""
    return Tiles(
        np.full(len(boxes), file, dtype=np.int32),
        np.array(boxes, dtype=np.int32).reshape(-1, 4),
        np.frombuffer(bytes.fromhex("".join(p.exact for p in prints)), dtype=np.uint8).reshape(-1, 32),
        np.array([p.perceptual or 0 for p in prints], dtype=np.uint64),
        np.array([p.perceptual is not None for p in prints], dtype=bool),
    )


def joined(parts: list[Tiles]) -> Tiles:
    """The rows of all parts in turn."""
    return Tiles(*(np.concatenate([getattr(part, column) for part in parts]) for column in _COLUMNS))


@dataclass(frozen=True)
class Index:
    """An index on the disk; its descriptors stay there until they are asked for.

    Attributes:
        path: The index file.
        header: What all tiles have in common.
        files: The library's files.
        tiles: A row per tile.
        width: Numbers in a descriptor.
        digest: Hexadecimal SHA-256 of all content but the header: of files, tiles and descriptors.
    """

    path: Path
    header: Header
    files: list[LibraryFile]
    tiles: Tiles
    width: int
    digest: str

    @property
    def root(self) -> Path:
        """Folder of the library."""
        return Path(self.header.root)

    def descriptors(self) -> Iterator[np.ndarray]:
        """All descriptors in order, float32 (up to CHUNK, width) at a time."""
        try:
            with safe_open(self.path, framework="np") as file:
                stored = file.get_slice("descriptors")
                for start in range(0, len(self.tiles), CHUNK):
                    yield stored[start : min(start + CHUNK, len(self.tiles))]
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.path}: was replaced while it was read ({error}). Start again.") from None

    def name(self, row: int) -> str:
        """Name of tile `row`: its file, and its place there unless it is all there is of the file."""
        file = self.files[self.tiles.file[row]]
        left, top, _, _ = self.tiles.window(row)
        alone = (left, top) == (0, 0) and not self._shares_file(row)
        return file.name if alone else f"{file.name}@{left},{top}"

    def _shares_file(self, row: int) -> bool:
        # Tiles of one file stand together.
        file, number = self.tiles.file, self.tiles.file[row]
        return (row > 0 and file[row - 1] == number) or (row + 1 < len(file) and file[row + 1] == number)


def write_index(path: Path, header: Header, files: list[LibraryFile], tiles: Tiles, descriptors: np.ndarray) -> None:
    """Write `path`, whole or not at all; equal content gives equal bytes.

    Raises:
        UserError: The folder cannot be written or is full.
    """
    table = json.dumps([list(asdict(file).values()) for file in files], ensure_ascii=False).encode()
    arrays = {column: getattr(tiles, column) for column in _COLUMNS}
    arrays |= {"files": np.frombuffer(table, dtype=np.uint8), "descriptors": descriptors.astype(np.float32, copy=False)}
    about = {
        "made_by": MADE_BY,
        "format": FORMAT,
        "header": asdict(header),
        "sha256": _digest((name, [arrays[name]]) for name in sorted(arrays)),
    }
    with replacing(path) as temporary:
        temporary.touch()
        permissions = temporary.stat().st_mode  # safetensors would make the file private
        try:
            # As one text, because safetensors keeps no order between several.
            save_file(arrays, temporary, {_ABOUT: json.dumps(about, ensure_ascii=False)})
        except SafetensorError as error:  # its word for a full disk
            raise OSError(str(error)) from error
        temporary.chmod(permissions)


def read_header(path: Path) -> Header:
    """What an index says of itself, without reading its tiles.

    Raises:
        DataError: Missing, damaged, or not written by `ttrd3 index`.
    """
    return _read(path, lambda file: _header(path, _about(file)))


def read_index(path: Path) -> Index:
    """Read an index and check that not a byte of it was changed.

    Raises:
        DataError: Missing, damaged, or not written by `ttrd3 index`.
    """

    def read(file: Any) -> Index:
        about = _about(file)
        header = _header(path, about)
        tiles = Tiles(**{column: file.get_tensor(column) for column in _COLUMNS})
        table = file.get_tensor("files")
        rows, width = file.get_slice("descriptors").get_shape()
        files = [
            LibraryFile(n, size, at, source, (x, y)) for n, size, at, source, (x, y) in json.loads(table.tobytes())
        ]
        index = Index(path, header, files, tiles, width, about["sha256"])
        content: dict[str, Any] = {column: [getattr(tiles, column)] for column in _COLUMNS}
        content |= {"files": [table], "descriptors": index.descriptors()}
        if rows != len(tiles) or _digest(sorted(content.items())) != about["sha256"]:
            raise ValueError("its checksum is another")
        return index

    return _read(path, read)


def _read(path: Path, read: Any) -> Any:
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"{path}: {there}. Expected an index; make one by `ttrd3 index --library DIR --out {path}`.")
    try:
        with safe_open(path, framework="np") as file:
            return read(file)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no index, or a damaged one ({error}). Delete it and run `ttrd3 index --out {path}` again."
        ) from None


def _about(file: Any) -> dict[str, Any]:
    return json.loads((file.metadata() or {}).get(_ABOUT, "{}"))


def _header(path: Path, about: dict[str, Any]) -> Header:
    if about.get("made_by") != MADE_BY:
        raise DataError(f"{path}: a safetensors file of another program, expected one that `ttrd3 index` wrote.")
    if about["format"] != FORMAT:
        raise DataError(
            f"{path}: found format {about['format']}, expected {FORMAT}. Delete it and run `ttrd3 index` again."
        )
    return Header(**about["header"])


def _digest(content: Any) -> str:
    """SHA-256 over (name, parts of an array in turn)."""
    digest = hashlib.sha256()
    for name, parts in content:
        digest.update(name.encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
