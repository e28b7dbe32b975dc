"""Cuts one source image into HR tiles on a grid and makes their LR: the work of one process of `ttrd3 prepare`."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.hashes import fingerprint
from ttrd3.data.images import read_rgb, write_png
from ttrd3.data.manifest import TileRow
from ttrd3.data.sources import Source
from ttrd3.errors import DataError

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Job:
    """One source image and the tiles to cut from it.

    Attributes:
        source: The image.
        out: Folder that is being prepared.
        split: Where its tiles go.
        tiles: Tile name -> box (left, top, right, bottom).
        convert: Whether grey, palette and opaque RGBA images are turned into RGB.
    """

    source: Source
    out: Path
    split: str
    tiles: dict[str, Box]
    convert: bool

    def paths(self, tile: str) -> dict[str, Path]:
        """The files of one tile by kind: hr, lr and, where paired, ref."""
        kinds = ("lr", "hr") if self.source.reference is None else ("lr", "ref", "hr")
        return {kind: self.out / self.split / kind / self.source.class_name / f"{tile}.png" for kind in kinds}

    def missing(self) -> list[str]:
        """The tiles that are not there in all their files."""
        return [tile for tile in self.tiles if not all(path.is_file() for path in self.paths(tile).values())]


@dataclass(frozen=True)
class Outcome:
    """What came of a job: the rows of its tiles, or the problem that left the source image out."""

    job: Job
    rows: list[TileRow] = field(default_factory=list)
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
        missing = job.missing()
        if missing:
            _write(job, missing)
        return Outcome(job, [_row(job, tile, box) for tile, box in job.tiles.items()])
    except DataError as error:
        return Outcome(job, problem=str(error))


def _write(job: Job, tiles: list[str]) -> None:
    image = read_rgb(job.source.path, convert=job.convert)
    reference = None if job.source.reference is None else read_rgb(job.source.reference, convert=job.convert)
    for tile in tiles:
        box, paths = job.tiles[tile], job.paths(tile)
        hr = _window(image, box)
        write_png(paths["lr"], lr_from_hr(hr))
        if reference is not None:
            write_png(paths["ref"], _window(reference, box))
        write_png(paths["hr"], hr)


def _row(job: Job, tile: str, box: Box) -> TileRow:
    hashes = fingerprint(read_rgb(job.paths(tile)["hr"]))  # of what lies on the disk, also after a resume
    return TileRow(tile, job.source.class_name, job.split, job.source.name, box, hashes)


def _window(image: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return image[top:bottom, left:right]
