"""What is asked of each file, and where its results go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ttrd3.errors import DataError
from ttrd3.inference import pictures, raster
from ttrd3.inference.ranges import Range
from ttrd3.inference.rasters import OtherBands
from ttrd3.inference.retrieval import Library

Format = Literal["auto", "tiff", "png", "jpeg", "webp"]
SUFFIXES = raster.SUFFIXES | set(pictures.SUFFIXES)

_SUFFIX_OF = {"tiff": ".tif", "png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class FileOptions:
    """What is asked of each file.

    Attributes:
        reference: A file, a folder with a file of each input's name, a library, or None.
        samples: N; with more than one, the result is their mean, and NAME_std.tif has their standard deviation.
        bands: Of TIFFs: red, green and blue, from 1; None: as the file says.
        other_bands: Of TIFFs: what becomes of the others.
        value_range: Of TIFFs: black and white; None: 0 and 255 for 8 bits, else found.
        format: Of the result; auto: the input's own.
        overwrite: Replace results that were made otherwise.
    """

    reference: Path | Library | None = None
    samples: int = 1
    bands: tuple[int, int, int] | None = None
    other_bands: OtherBands = "drop"
    value_range: Range | None = None
    format: Format = "auto"
    overwrite: bool = False


def output_path(source: Path, folder: Path, form: Format) -> Path:
    """Where the result of a file goes.

    Raises:
        DataError: A file of an unknown kind, or a TIFF that is to become something else.
    """
    suffix = source.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{source}: is no PNG, JPEG, WebP or TIFF by its suffix. Rename or convert it.")
    if form != "auto" and form != "tiff" and suffix in raster.SUFFIXES:
        raise DataError(f"{source}: a TIFF becomes a TIFF, found --format {form}. Leave --format out.")
    return folder / (source.name if form == "auto" else source.stem + _SUFFIX_OF[form])


def spread_path(output: Path) -> Path:
    """Where the standard deviation of several samples goes."""
    return output.with_name(f"{output.stem}_std.tif")
