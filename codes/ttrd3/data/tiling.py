"""Cuts one source image into HR tiles on a grid and makes their LR: the work of one process of `ttrd3 prepare`."""

import contextlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
import rasterio

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.hashes import fingerprint
from ttrd3.data.images import read_mask, read_rgb, write_png
from ttrd3.data.manifest import TileRow
from ttrd3.data.nodata import filled, is_measurable, untouched
from ttrd3.data.radiometry import Radiometry
from ttrd3.data.rasters import Box, read_bands
from ttrd3.data.sources import Source
from ttrd3.data.whole import read_whole_rgb
from ttrd3.errors import DataError

Window = tuple[np.ndarray | None, np.ndarray | None]


@dataclass(frozen=True)
class Job:
    """One source image and the tiles to cut from it.

    Attributes:
        source: The image.
        out: Folder that is being prepared.
        split: Where its tiles go.
        tiles: Tile name -> box (left, top, right, bottom).
        convert: Whether grey, palette and opaque RGBA images are turned into RGB.
        radiometry: How the image is read, where it is not plain 8-bit RGB.
        reference_radiometry: The same of its reference.
        max_nodata: Largest share of pixels without data that a tile may have.
    """

    source: Source
    out: Path
    split: str
    tiles: dict[str, Box]
    convert: bool
    radiometry: Radiometry | None = None
    reference_radiometry: Radiometry | None = None
    max_nodata: float = 0.5

    def paths(self, tile: str) -> dict[str, Path]:
        """The files of one tile by kind: hr, lr and, where paired, ref."""
        kinds = ("lr", "hr") if self.source.reference is None else ("lr", "ref", "hr")
        return {kind: self._path(kind, tile) for kind in kinds}

    def mask_path(self, tile: str) -> Path:
        """The mask of one tile, which is there only where pixels without data matter."""
        return self._path("mask", tile)

    def _path(self, kind: str, tile: str) -> Path:
        return self.out / self.split / kind / self.source.class_name / f"{tile}.png"

    def missing(self) -> list[str]:
        """The tiles that are not there in all their files."""
        return [tile for tile in self.tiles if not all(path.is_file() for path in self.paths(tile).values())]


@dataclass(frozen=True)
class Outcome:
    """What came of a job: the rows of its tiles, or the problem that left the source image out.

    Attributes:
        job: The job.
        rows: A row for each tile that is there.
        without_data: How many tiles were left out for want of data.
        problem: What is wrong with the image.
    """

    job: Job
    rows: list[TileRow] = field(default_factory=list)
    without_data: int = 0
    problem: str | None = None


def grid(width: int, height: int, tile: int, stride: int) -> list[Box]:
    """The boxes of all whole tiles of a `width` x `height` image, row by row; none where the tile does not fit."""
    return [
        (left, top, left + tile, top + tile)
        for top in range(0, height - tile + 1, stride)
        for left in range(0, width - tile + 1, stride)
    ]


def name_tiles(stem: str, boxes: list[Box]) -> dict[str, Box]:
    """Tile name -> box: the image's own name for a single tile, else NAME_TOP_LEFT."""
    if len(boxes) == 1:
        return {stem: boxes[0]}
    return {f"{stem}_{box[1]:04d}_{box[0]:04d}": box for box in boxes}


def cut(job: Job) -> Outcome:
    """Write the tiles of `job` that are not there yet, each file whole or not at all.

    A damaged or unfit source image is a problem in the outcome; an output that cannot be written is raised.

    Raises:
        UserError: The output folder cannot be written or is full.
    """
    try:
        left_out = _write(job, job.missing())
        rows = [_row(job, tile, box) for tile, box in job.tiles.items() if tile not in left_out]
        return Outcome(job, rows, len(left_out))
    except DataError as error:
        for tile in job.tiles:  # of an image that is read in windows some may be there already
            for path in [*job.paths(tile).values(), job.mask_path(tile)]:
                path.unlink(missing_ok=True)
        return Outcome(job, problem=str(error))


def _write(job: Job, tiles: list[str]) -> set[str]:
    """Write the tiles, but for those that are left out for want of data, which are returned."""
    if not tiles:
        return set()
    left_out = set()
    boxes = [job.tiles[tile] for tile in tiles]
    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env())  # a frame for those of the two readers, which may end in any order
        images = stack.enter_context(closing(_windows(job.source.path, job.radiometry, boxes, job.convert)))
        references: Iterator[Window] = repeat((None, None))
        if job.source.reference is not None:
            references = _windows(job.source.reference, job.reference_radiometry, boxes, job.convert)
            stack.enter_context(closing(references))
        for tile, (hr, there), (reference, reference_there) in zip(tiles, images, references, strict=False):
            valid = None if there is None or there.all() else untouched(there)
            whole_reference = reference_there is None or reference_there.all()
            enough = valid is None or (1 - there.mean() <= job.max_nodata and is_measurable(valid))
            if enough and whole_reference:
                _write_tile(job, tile, hr if valid is None else filled(hr, there), reference, valid)
            else:
                left_out.add(tile)
    return left_out


def _write_tile(job: Job, tile: str, hr: np.ndarray, reference: np.ndarray | None, valid: np.ndarray | None) -> None:
    paths = job.paths(tile)
    write_png(paths["lr"], lr_from_hr(hr))
    if reference is not None:
        write_png(paths["ref"], reference)
    if valid is not None:
        write_png(job.mask_path(tile), valid.astype(np.uint8) * 255)
    write_png(paths["hr"], hr)  # last: where it is, the others are


def _windows(
    path: Path, radiometry: Radiometry | None, boxes: list[Box], convert: bool
) -> Generator[Window, None, None]:
    """The windows of an image in turn, uint8 (H, W, 3), and where they have data, (H, W); None for everywhere."""
    if radiometry is None:
        image = read_whole_rgb(path, convert=convert)
        for left, top, right, bottom in boxes:
            yield image[top:bottom, left:right], None
        return
    with closing(read_bands(path, radiometry.bands, boxes)) as windows:
        for values, there in windows:
            yield radiometry.to_8bit(values), there


def _row(job: Job, tile: str, box: Box) -> TileRow:
    hashes = fingerprint(read_rgb(job.paths(tile)["hr"]))  # of what lies on the disk, also after a resume
    path = job.mask_path(tile)
    masked = float(1 - read_mask(path).mean()) if path.is_file() else 0.0
    return TileRow(tile, job.source.class_name, job.split, job.source.name, box, hashes, masked)
