"""References by likeness: of an indexed library the tiles that look most like an LR image, never the image itself."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ttrd3.data.degrade import up_from_lr
from ttrd3.data.descriptors import Descriptor
from ttrd3.data.hashes import are_duplicates, fingerprint
from ttrd3.data.images import read_rgb
from ttrd3.data.index import Index, read_index
from ttrd3.data.layout import Tile, some
from ttrd3.data.search import Searcher
from ttrd3.data.tiling import Box
from ttrd3.data.windows import read_windows
from ttrd3.errors import DataError

_AT_ONCE = 256  # tiles that are described and searched together: bounds memory
_SPARE = 8  # more than asked for are searched, because duplicates of the image drop out
_WIDER = 8  # and this many times more where that was not enough

logger = logging.getLogger(__name__)


class RetrievedReferences:
    """For each tile of a data set the best references of a library; found once, when it is built."""

    def __init__(self, path: Path, tiles: Sequence[Tile], descriptor: Descriptor, *, top: int, least: int = 1):
        """Search.

        Args:
            path: An index file.
            tiles: The data set's tiles.
            descriptor: The one that the index was made with.
            top: How many of the best references of each tile are kept.
            least: How many each must have.

        Raises:
            DataError: An index that is missing, damaged, out of date or of another descriptor or tile size, or a
                tile without usable reference.
        """
        index = read_index(path)
        require_descriptor(index, descriptor)
        logger.info("looking up references for %d images among the %d tiles of %s", len(tiles), len(index.tiles), path)
        best = search_tiles(index, tiles, descriptor, top)
        few = [tile.name for tile, rows in zip(tiles, best, strict=True) if (rows >= 0).sum() < least]
        if few:
            raise DataError(
                f"{path}: {len(few)} images have fewer than {least} usable references in the library of "
                f"{len(index.tiles)} tiles ({some(few)}): what is there is the image itself, its duplicates, or "
                "overlaps it. Add images to the library and run `ttrd3 index` again."
            )
        used, places = np.unique(best, return_inverse=True)
        # Only what can be drawn stays in memory, and goes to the processes that load images.
        self._best = np.where(best >= 0, places.reshape(best.shape), -1)
        self._tiles = [locate(index, row) for row in used.tolist()]

    def draw(self, number: int, count: int, rng: np.random.Generator) -> list[tuple[Path, np.ndarray, str]]:
        """File, image uint8 (H, W, 3) and name of `count` different ones among the best of tile `number`, best first.

        Raises:
            DataError: A file of the library is damaged or gone; names it.
        """
        there = self._best[number][self._best[number] >= 0]
        drawn = np.sort(rng.permutation(len(there))[:count])
        found = []
        for place in there[drawn]:
            path, box, name = self._tiles[place]
            (image,) = read_windows(path, [box])
            found.append((path, image, name))
        return found


def search_tiles(index: Index, tiles: Sequence[Tile], descriptor: Descriptor, top: int) -> np.ndarray:
    """int64 (len(tiles), top), rows of the index that may serve each tile, nearest first, -1 where there are fewer.

    Left out are the tile itself, its exact and perceptual duplicates, and what overlaps it in the image that both were
    cut from.

    Raises:
        DataError: An LR image that cannot be read, or of another size than the tiles of the index.
    """
    searcher = Searcher(index.descriptors, len(index.tiles), index.width, standardized=index.header.standardized)
    best = np.full((len(tiles), top), -1, dtype=np.int64)
    for start in range(0, len(tiles), _AT_ONCE):
        part = tiles[start : start + _AT_ONCE]
        queries = np.concatenate([descriptor(_up(tile, index)[None]) for tile in part])
        guards = [guard_of(index, tile) for tile in part]
        best[start : start + len(part)] = nearest_usable(searcher, queries, guards, top)
    return best


def nearest_usable(
    searcher: Searcher, queries: np.ndarray, guards: Sequence[Callable[[int], bool]], top: int
) -> np.ndarray:
    """int64 (n, top), nearest rows that the query's guard does not refuse, nearest first, -1 where there are fewer."""
    best = np.full((len(queries), top), -1, dtype=np.int64)
    missing, k = np.arange(len(queries)), top + _SPARE
    while len(missing):
        everything = k >= searcher.count
        found = searcher.nearest(queries[missing], k, everywhere=k > top + _SPARE)
        short = []
        for query, rows in zip(missing, found, strict=True):
            usable = [row for row in rows.tolist() if row >= 0 and not guards[query](row)][:top]
            best[query, : len(usable)] = usable
            if len(usable) < top and not everything:
                short.append(query)
        missing, k = np.array(short, dtype=np.int64), k * _WIDER
    return best


def _up(tile: Tile, index: Index) -> np.ndarray:
    up = up_from_lr(read_rgb(tile.lr))
    side = index.header.tile
    if up.shape[:2] != (side, side):
        raise DataError(
            f"{tile.hr}: {up.shape[1]} x {up.shape[0]} pixels, but {index.path} holds tiles of {side} x {side}; "
            "expected the same size. Make the index again by `ttrd3 index --tile`, or prepare the data with "
            f"--tile {side}."
        )
    return up


def guard_of(index: Index, tile: Tile) -> Callable[[int], bool]:
    """Tells whether a row of the index must not serve `tile`: is it, is a duplicate of it, or overlaps it."""
    own = tile.fingerprint or fingerprint(read_rgb(tile.hr))

    def refused(row: int) -> bool:
        file = index.files[index.tiles.file[row]]
        if are_duplicates(own, index.tiles.fingerprint(row)):
            return True
        box = file.in_source(index.tiles.window(row))
        return tile.source is not None and same_source(tile.source[0], file.source) and overlap(tile.source[1], box)

    return refused


def same_source(a: str, b: str) -> bool:
    """Whether two relative names may be of one image: one path ends the other, whatever the suffixes.

    Of data prepared from DIR/scenes and a library DIR the names are `a.tif` and `scenes/a.tif`. Two images of one name
    in different folders are taken for one too: that only leaves out a reference where their boxes overlap.
    """
    first, second = (PurePosixPath(name).with_suffix("").parts for name in (a, b))
    shared = min(len(first), len(second))
    return first[-shared:] == second[-shared:]


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def require_descriptor(index: Index, descriptor: Descriptor) -> None:
    """Refuse an index whose descriptors cannot be compared with those of `descriptor`.

    Raises:
        DataError: Names both.
    """
    if descriptor.kind != index.header.kind:
        raise DataError(
            f"{index.path}: was made with the descriptor {index.header.kind}, expected {descriptor.kind}. "
            "Make it again by `ttrd3 index` with the same --weights (or without)."
        )


def locate(index: Index, row: int) -> tuple[Path, Box, str]:
    """File, window and name of a tile; all of them empty for row -1.

    Raises:
        DataError: The file is gone or was changed since it was described.
    """
    if row < 0:
        return Path(), (0, 0, 0, 0), ""
    file = index.files[index.tiles.file[row]]
    path = index.root / file.name
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), but {index.path} lists it. Bring the library back or, where "
            f"it was moved or changed, run `ttrd3 index --library DIR --out {index.path}` again."
        ) from None
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise DataError(
            f"{path}: was changed after {index.path} was made. Run `ttrd3 index --library {index.root} "
            f"--out {index.path}` again; it reads only what was changed."
        )
    return path, index.tiles.window(row), index.name(row)
