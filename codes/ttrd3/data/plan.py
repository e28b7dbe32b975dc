"""What `ttrd3 prepare` is going to do, worked out and checked before anything is written."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ttrd3.data.degrade import SCALE
from ttrd3.data.images import read_size
from ttrd3.data.layout import some
from ttrd3.data.manifest import FORMAT
from ttrd3.data.radiometry import parse_scaling
from ttrd3.data.sources import Listing, Source
from ttrd3.data.splits import DRAWN, assign_splits
from ttrd3.data.survey import Declared, Reading, inspect
from ttrd3.data.tiling import Job, grid, name_tiles
from ttrd3.errors import DataError, UserError

PROBLEMS = 20  # problems that one message lists at most

# Options of TIFFs, recorded only where they are set: what was prepared before there were such stays recognised.
_OF_TIFFS = {"bands": None, "scale": None, "max_nodata": 0.5}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareOptions:
    """What decides the content of a prepared folder.

    Attributes:
        tile: Side of the HR tiles in pixels, a multiple of 4.
        stride: Distance between the tiles of one image in pixels.
        shares: val, test, ref -> share of the source images; the rest is train.
        lists: val, test, ref -> names or glob patterns that take the place of the share.
        paired: Insist on hr/ and ref/ folders.
        skip_bad: Leave out what cannot be used, and say so in the manifest, instead of refusing all.
        convert: Turn grey, palette and fully opaque RGBA images into RGB, without loss.
        bands: Numbers of the bands of TIFFs that become red, green and blue, counted from 1; None: there are three.
        scale: How values of TIFFs become 8 bits: none, divide:N or percentiles:LOW,HIGH; None: they are 8-bit.
        max_nodata: Largest share of pixels without data of a tile that is not left out.
    """

    tile: int = 256
    stride: int = 256
    shares: dict[str, float] = field(default_factory=lambda: {"val": 0.1, "test": 0.1, "ref": 0.0})
    lists: dict[str, list[str]] = field(default_factory=dict)
    paired: bool = False
    skip_bad: bool = False
    convert: bool = False
    bands: list[int] | None = None
    scale: str | None = None
    max_nodata: float = _OF_TIFFS["max_nodata"]

    @property
    def declared(self) -> Declared:
        """What is said of TIFFs.

        Raises:
            UserError: A scaling that makes no sense.
        """
        return Declared(self.bands, None if self.scale is None else parse_scaling(self.scale))

    def check(self) -> None:
        """Refuse values that make no sense.

        Raises:
            UserError: Names the option, what was found and what was expected.
        """
        if self.tile < SCALE or self.tile % SCALE:
            raise UserError(f"--tile: found {self.tile}, expected a multiple of {SCALE}. Set it to such, as 256.")
        if self.stride < 1:
            raise UserError(f"--stride: found {self.stride}, expected at least 1. Leave it out for adjoining tiles.")
        for split, share in self.shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"--{split}: found {share:g}, expected a share between 0 and 1, as 0.1.")
        total = sum(self.shares[split] for split in DRAWN if split not in self.lists)
        if total > 1 + 1e-9:
            raise UserError(f"--val, --test and --ref add up to {total:g}, expected at most 1. Lower one of them.")
        if not 0 <= self.max_nodata <= 1:
            raise UserError(f"--max-nodata: found {self.max_nodata:g}, expected a share between 0 and 1, as 0.5.")
        _ = self.declared


def identity(options: PrepareOptions, listing: Listing) -> dict[str, Any]:
    """What the plan and the manifest record to recognise the same command again; no path of this machine in it."""
    recorded = {name: value for name, value in asdict(options).items() if value != _OF_TIFFS.get(name, ...)}
    return {
        "format": FORMAT,
        "made_by": "ttrd3 prepare",
        "options": recorded,
        "sources": {"images": len(listing.sources), "names_and_sizes_sha256": listing.digest()},
    }


def plan_jobs(listing: Listing, out: Path, options: PrepareOptions) -> tuple[list[Job], dict[str, str]]:
    """The jobs for all usable source images, and the problems of the others by relative name.

    Raises:
        DataError: Two sources for one tile, a pattern that matches nothing, or nothing usable at all.
    """
    problems = dict(listing.problems)
    declared = options.declared
    splits = assign_splits(listing.sources, options.shares, options.lists)
    jobs, ignoring = [], 0
    for source in listing.sources:
        try:
            (width, height), readings = _common_size(source, declared)
        except DataError as error:
            problems[source.name] = str(error)
            continue
        ignoring += any(reading.ignores_nodata for reading in readings)
        boxes = grid(width, height, options.tile, options.stride)
        if boxes:
            tiles = name_tiles(PurePosixPath(source.name).stem, boxes)
            jobs.append(
                Job(
                    source, out, splits[source.name], tiles, options.convert,
                    *(reading.radiometry for reading in readings), options.max_nodata,
                )
            )  # fmt: skip
        else:
            problems[source.name] = (
                f"{source.path}: {width} x {height} pixels, smaller than the tile of {options.tile} (--tile)."
            )
    if ignoring:
        logger.warning(
            "%d TIFFs declare pixels without data, which are taken for colours here; --scale none masks them", ignoring
        )
    _require_unique_names(jobs)
    if not jobs:
        raise too_many(problems, "no image can be used")
    return jobs, problems


def too_many(problems: dict[str, str], what: str) -> DataError:
    """One error that lists the problems, up to PROBLEMS of them."""
    return DataError(
        "\n  ".join([f"{what}; {len(problems)} with problems:", *shortened(problems)])
        + "\nMend them, or run again with --skip-bad, which leaves them out and says so in the manifest."
    )


def shortened(problems: dict[str, str]) -> list[str]:
    """The first PROBLEMS texts, and how many more there are."""
    listed = [text for _, text in sorted(problems.items())[:PROBLEMS]]
    more = len(problems) - len(listed)
    return [*listed, f"... and {more} more"] if more else listed


def bytes_needed(jobs: list[Job], tile: int) -> int:
    """Upper estimate of the disk space for the tiles that are not there yet: PNG never takes much more than raw."""
    tiles = sum(len(job.missing()) for job in jobs)
    images = 1 + 1 / SCALE**2 + (jobs[0].source.reference is not None)
    masks = sum(len(job.missing()) for job in jobs if job.radiometry is not None)
    return int((tiles * images * 3 + masks) * tile**2)


def _common_size(source: Source, declared: Declared) -> tuple[tuple[int, int], list[Reading]]:
    """Size of an image and its reference, and how each is to be read."""
    reading = inspect(source.path, declared)
    size = reading.size or read_size(source.path)
    if source.reference is None:
        return size, [reading, Reading()]
    of_reference = inspect(source.reference, declared)
    other = of_reference.size or read_size(source.reference)
    if other != size:
        raise DataError(
            f"{source.reference}: {other[0]} x {other[1]} pixels, but {source.path} has {size[0]} x {size[1]}; "
            "expected the same size. Resample one of them."
        )
    return size, [reading, of_reference]


def _require_unique_names(jobs: list[Job]) -> None:
    # The split does not count: a name stands for one tile in the whole folder.
    names = Counter(f"{job.source.class_name}/{tile}" for job in jobs for tile in job.tiles)
    twice = {name for name, count in names.items() if count > 1}
    if twice:
        sources = [job.source.name for job in jobs if any(f"{job.source.class_name}/{t}" in twice for t in job.tiles)]
        raise DataError(
            f"{len(twice)} tile names come from two sources each: {some(twice)} (from {some(sources)}). "
            "Rename or remove one of the sources."
        )
