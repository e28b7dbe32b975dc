"""References by likeness: for each tile of an image, the tile of an indexed library that looks most like it."""

import itertools
import logging
import math
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from ttrd3.data.degrade import SCALE
from ttrd3.data.descriptors import Descriptor
from ttrd3.data.hashes import are_duplicates, fingerprint
from ttrd3.data.images import SUFFIXES
from ttrd3.data.index import Index, read_index
from ttrd3.data.retrieved import locate, nearest_usable, overlap, require_descriptor, same_source
from ttrd3.data.search import Searcher
from ttrd3.data.tiling import Box
from ttrd3.data.windows import read_windows
from ttrd3.errors import DataError
from ttrd3.inference.describe import descriptor_of_index
from ttrd3.inference.enlarge import continued
from ttrd3.inference.references import Excerpt, View, shared_size

logger = logging.getLogger(__name__)

INDEX_SUFFIX = ".index"  # what the examples call an index; others are known by their content
_LENGTH = 8  # bytes before the header of a safetensors file, which is JSON


def is_index(path: Path) -> bool:
    """Whether a reference file is meant as an index rather than as a picture."""
    if path.suffix.lower() in SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return path.suffix == INDEX_SUFFIX or file.read(_LENGTH + 1)[_LENGTH:] == b"{"
    except OSError:  # told by who reads it as a picture
        return False


class Library:
    """An index, ready to be searched: opened once, used for any number of images."""

    def __init__(self, index: Index, descriptor: Descriptor):
        """Check that the library is still what the index says.

        Raises:
            DataError: An index without tiles, of another descriptor, or of files that are gone or were changed.
        """
        require_descriptor(index, descriptor)
        if not len(index.tiles):
            raise DataError(f"{index.path}: holds no tile. Add images to {index.root} and run `ttrd3 index` again.")
        for row in np.unique(index.tiles.file, return_index=True)[1].tolist():  # a tile of each file
            locate(index, row)
        self.index, self.descriptor = index, descriptor
        self.identity = f"{index.digest}, {index.header.kind}"

    @classmethod
    def open(cls, path: Path, device: torch.device) -> "Library":
        """The library of an index file; where it was made with weights, their encoder computes on `device`.

        Raises:
            DataError: An index that is missing, damaged, of no tiles, or out of date; or its weights are gone.
        """
        index = read_index(path)
        return cls(index, descriptor_of_index(path, device))

    def references(self, image: Path | None, multiple: int) -> "RetrievedReference":
        """References for the tiles of an image.

        Args:
            image: Its file, or None where it has none.
            multiple: The networks take sides that are a multiple of this.

        Raises:
            DataError: The tiles of the index are smaller than that.
        """
        return RetrievedReference(self, image, multiple)

    def nearest(self, query: np.ndarray, refused: Callable[[int], bool]) -> int | None:
        """The tile nearest to a descriptor (D,) that is not `refused`; None where all are."""
        # One query at a time: in a batch faiss may round otherwise.
        (found,) = nearest_usable(self._searcher, query[None], [refused], top=1)[:, 0].tolist()
        return None if found < 0 else found

    def files_of(self, image: Path) -> frozenset[int]:
        """Numbers of the library's files that are `image` itself."""
        try:
            about = image.stat()
            alike = self._by_state.get((about.st_size, about.st_mtime_ns), [])
            return frozenset(n for n in alike if (self.index.root / self.index.files[n].name).samefile(image))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror}).") from None

    @cached_property
    def _by_state(self) -> dict[tuple[int, int], list[int]]:
        found: dict[tuple[int, int], list[int]] = {}
        for number, file in enumerate(self.index.files):
            found.setdefault((file.size, file.mtime_ns), []).append(number)
        return found

    @cached_property
    def _searcher(self) -> Searcher:
        index = self.index
        return Searcher(index.descriptors, len(index.tiles), index.width, standardized=index.header.standardized)


class RetrievedReference:
    """For each tile of one image, the middle of the library tile that looks most like it, as large as the tile.

    Both are described as enlarged LR, at one scale: what is described of the image's tile is as large as the library's
    tiles are. A larger one is described by the mean over windows of that size which cover it: of all library tiles, the
    nearest to the mean is the nearest to all windows (least sum of squared distances). A smaller one, as of an image
    that is smaller than a tile, is continued by its mirror image. Nothing is resized, because texture enlarged or
    reduced is another texture.

    Never taken are

    - the image's own file;
    - a duplicate of the tile: of the tile itself, of each of its windows (of 832 images of NEON, NWPU-RESISC45 and UC
      Merced the perceptual hash of the enlarged LR differs from that of its HR in at most 6 bits, the limit for
      duplicates, from that of another image in at least 12);
    - of a file with the image's name, in whatever folder and format, or cut from an image of that name, what overlaps
      the tile: as HR, four times as large, or as LR.

    Only LR is known here: HR of the same place that has another name and another grid of tiles is not recognised.
    """

    def __init__(self, library: Library, image: Path | None, multiple: int):
        """Use `Library.references`."""
        index, side = library.index, library.index.header.tile
        if side < multiple:
            raise DataError(
                f"{index.path}: holds tiles of {side} x {side} pixels, expected at least {multiple} x {multiple}. "
                "Make it again by `ttrd3 index --tile`."
            )
        self.identity = f"retrieved from {library.identity}"
        self._library, self._multiple = library, multiple
        self._name = None if image is None else image.name
        self._image = str(image or "the image")
        self._own = frozenset() if image is None else library.files_of(image)
        self._warned = False

    def window(self, view: View) -> Excerpt | None:
        """At most as large as the tile; None, with a warning, where the library has nothing else than the tile."""
        index = self._library.index
        content = view.up[: SCALE * view.height, : SCALE * view.width]
        windows = _windows(content, index.header.tile)
        query = np.mean([self._library.descriptor(window[None])[0] for window in windows], axis=0, dtype=np.float32)
        row = self._library.nearest(query, self._guard(view, [content, *windows]))
        if row is None:
            self._warn(view)
            return None
        side = index.header.tile
        size = shared_size(view.up.shape[:2], (side, side), self._multiple)
        return Excerpt((index.digest, row, size), partial(_read_middle, index, row, size))

    def _guard(self, view: View, shown: list[np.ndarray]) -> Callable[[int], bool]:
        index, prints = self._library.index, {fingerprint(image) for image in shown}
        corners = view.left, view.top, view.left + view.width, view.top + view.height
        places: list[Box] = [tuple(factor * corner for corner in corners) for factor in (SCALE, 1)]

        def refused(row: int) -> bool:
            if int(index.tiles.file[row]) in self._own:
                return True
            other = index.tiles.fingerprint(row)
            if any(are_duplicates(own, other) for own in prints):
                return True
            if self._name is None:
                return False
            file, box = index.files[index.tiles.file[row]], index.tiles.window(row)
            return any(
                same_source(self._name, name) and overlap(place, there)
                for name, there in ((file.name, box), (file.source, file.in_source(box)))
                for place in places
            )

        return refused

    def _warn(self, view: View) -> None:
        if not self._warned:
            logger.warning(
                "%s: %s has no reference for the tile at row %d, column %d, and perhaps for others: all it holds is "
                "the image itself, its duplicates, or overlaps it. They are done without; add images to the library",
                self._image, self._library.index.path, view.top, view.left,
            )  # fmt: skip
            self._warned = True


def _windows(content: np.ndarray, side: int) -> list[np.ndarray]:
    """Windows of side x side pixels that cover uint8 (H, W, 3), spread evenly; a short side is mirrored to be one."""
    content = continued(content, *(max(length, side) for length in content.shape[:2]))
    tops, lefts = (_starts(length, side) for length in content.shape[:2])
    return [content[y : y + side, x : x + side] for y, x in itertools.product(tops, lefts)]


def _starts(length: int, side: int) -> list[int]:
    """First pixels of windows of `side` pixels that cover `length`, all on LR's grid."""
    count = math.ceil(length / side)
    rest = (length - side) // SCALE
    return [SCALE * round(number * rest / max(count - 1, 1)) for number in range(count)]


def _read_middle(index: Index, row: int, size: tuple[int, int]) -> np.ndarray:
    path, box, _ = locate(index, row)
    (image,) = read_windows(path, [box])
    top, left = ((there - wanted) // 2 for there, wanted in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]
