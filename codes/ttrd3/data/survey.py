"""Looks at a data set before it is cut: which TIFFs need a scaling, and what it means for all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ttrd3.data.layout import some
from ttrd3.data.radiometry import Radiometry, Scaling, clipped_shares, ranges_for
from ttrd3.data.rasters import DTYPES, Bands, Header, is_tiff, read_bands, read_header
from ttrd3.data.tiling import Job
from ttrd3.errors import DataError

_TILES = 512  # that are looked at, evenly over the data set
_PIXELS = 4096  # of each of them, on a grid

_BANDS_HINT = "Say by --bands which three are red, green and blue, as --bands 3,2,1"


@dataclass(frozen=True)
class Declared:
    """What the user says of TIFFs; with neither, 8-bit RGB is expected."""

    bands: Sequence[int] | None
    scaling: Scaling | None

    @property
    def anything(self) -> bool:
        """Whether something was declared, so that every image is to be read as a TIFF by it."""
        return self.bands is not None or self.scaling is not None


@dataclass(frozen=True)
class Reading:
    """How an image is to be read.

    Attributes:
        radiometry: Without ranges yet; None: as plain 8-bit RGB.
        size: (width, height) where radiometry is there.
        ignores_nodata: Whether it declares pixels without data, which are taken for colours.
    """

    radiometry: Radiometry | None = None
    size: tuple[int, int] | None = None
    ignores_nodata: bool = False


def inspect(path: Path, declared: Declared) -> Reading:
    """How an image is to be read, from its header.

    Raises:
        DataError: A declaration for an image that is not a TIFF, or a TIFF that lacks one or whose bands do not fit.
    """
    if not is_tiff(path):
        if declared.anything:
            raise DataError(
                f"{path}: not a TIFF, but --bands and --scale say how TIFFs are read. Prepare the two kinds apart."
            )
        return Reading()
    try:
        header = read_header(path)
    except DataError:
        if declared.anything:
            raise
        return Reading()  # Pillow reads it, or tells what is wrong
    if not declared.anything and not _is_deep(header):
        return Reading(ignores_nodata=header.masked)
    bands = _bands(path, header, declared)
    kinds = {header.dtypes[band - 1] for band in bands}
    if odd := kinds - set(DTYPES):
        raise DataError(f"{path}: found values of type {some(odd)}, expected one of {', '.join(DTYPES)}. Convert it.")
    if kinds != {"uint8"} and (declared.scaling is None or declared.scaling.kind == "none"):
        raise DataError(
            f"{path}: found {some(kinds)}, expected 8-bit values without --scale or with --scale none. Declare how "
            "they become 8 bits: --scale divide:10000 for reflectance in ten-thousandths, or percentiles:2,98."
        )
    return Reading(Radiometry(bands, "/".join(sorted(kinds))), (header.width, header.height))


def _is_deep(header: Header) -> bool:
    """Whether its values need a scaling."""
    return not set(header.dtypes) <= {"uint8"} and set(header.dtypes) <= set(DTYPES)


def _bands(path: Path, header: Header, declared: Declared) -> Bands:
    if declared.bands is None:
        if len(header.colours) != 3:
            raise DataError(f"{path}: found {len(header.colours)} bands, expected 3. {_BANDS_HINT}.")
        return header.colours
    if max(declared.bands) > len(header.dtypes):
        raise DataError(
            f"{path}: found {len(header.dtypes)} bands, but --bands asks for band {max(declared.bands)}. {_BANDS_HINT}."
        )
    return tuple(declared.bands)


def scaled(jobs: list[Job], scaling: Scaling | None) -> tuple[list[Job], dict[str, Any]]:
    """The jobs with the ranges that the scaling means for the whole data set, and what the manifest says of them.

    HR and references have ranges of their own: they may come from different sensors.

    Raises:
        DataError: An implausible declaration, or images of several types.
    """
    scaling = scaling or Scaling("none")
    hr, told = _ranged(jobs, "radiometry", "the images", scaling)
    references, told_of_references = _ranged(jobs, "reference_radiometry", "the references", scaling)
    jobs = [replace(job, radiometry=a, reference_radiometry=b) for job, a, b in zip(jobs, hr, references, strict=True)]
    return jobs, {"hr": told} | ({"references": told_of_references} if told_of_references else {})


def _ranged(
    jobs: list[Job], field: str, what: str, scaling: Scaling
) -> tuple[list[Radiometry | None], dict[str, Any] | None]:
    radiometry: list[Radiometry | None] = [getattr(job, field) for job in jobs]
    chosen = [(job, plain) for job, plain in zip(jobs, radiometry, strict=True) if plain is not None]
    if not chosen:
        return radiometry, None
    kinds = Counter(plain.dtype for _, plain in chosen)
    if len(kinds) > 1:
        counted = ", ".join(f"{kind} in {count} files" for kind, count in sorted(kinds.items()))
        raise DataError(
            f"--scale: {what} are of several types: {counted}; one scaling cannot fit them. Prepare them apart."
        )
    values = _sample(chosen, field)
    bands = chosen[0][1].bands
    ranges = ranges_for(scaling, values, bands, what)
    told: dict[str, Any] = {"bands": list(bands), "ranges": ranges, "pixels_looked_at": len(values)}
    if ranges is not None:
        told["clipped"] = {side: round(share, 6) for side, share in clipped_shares(ranges, values).items()}
    return [plain and replace(plain, ranges=ranges) for plain in radiometry], told


def _sample(chosen: list[tuple[Job, Radiometry]], field: str) -> np.ndarray:
    """Pixels (n, 3) with data, of tiles that lie evenly over the data set: the same ones at every call."""
    tiles = [(job, plain, box) for job, plain in chosen for box in job.tiles.values()]
    numbers = np.unique(np.linspace(0, len(tiles) - 1, min(_TILES, len(tiles))).round().astype(int))
    found = [np.empty((0, 3))]
    for job, plain, box in (tiles[number] for number in numbers):
        path = job.source.path if field == "radiometry" else job.source.reference
        try:
            ((values, there),) = read_bands(path, plain.bands, [box])
        except DataError:  # told when the tile is cut, which reads all of them
            continue
        step = max(1, int(np.ceil(np.sqrt(there.size / _PIXELS))))
        found.append(values[::step, ::step][there[::step, ::step]])
    return np.concatenate(found)
