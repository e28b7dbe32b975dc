"""TIFFs of any number of bands and any depth, read in windows by rasterio, with what in them is no data."""

import contextlib
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from scipy.ndimage import label

from ttrd3.errors import DataError

Box = tuple[int, int, int, int]
Bands = tuple[int, int, int]  # numbers of those that become red, green and blue, counted from 1

DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")

_TIFF = frozenset({".tif", ".tiff"})
_CACHE_BYTES = 64 * 2**20  # of decoded blocks: a row of windows meets the same strips of a file again and again
_REGION = 64  # pixels that touch: fewer of a nodata value that is a colour, too, are such a colour
_MISSING = "Fetch it again, or leave it out (--skip-bad)"


@dataclass(frozen=True)
class Header:
    """What the header of a TIFF says.

    Attributes:
        width: In pixels.
        height: In pixels.
        dtypes: Type of each band.
        colours: Numbers of the bands that are no alpha channel, counted from 1.
        masked: Whether it declares pixels without data: by a nodata value, a mask or an alpha channel.
    """

    width: int
    height: int
    dtypes: tuple[str, ...]
    colours: tuple[int, ...]
    masked: bool


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF by its suffix, so that windows of it can be read without decoding all of it."""
    return path.suffix.lower() in _TIFF


def read_header(path: Path) -> Header:
    """What the header says.

    Raises:
        DataError: Missing, damaged or not a TIFF; names the file.
    """
    with opened_tiff(path) as dataset:
        colours = tuple(band for band, role in enumerate(dataset.colorinterp, start=1) if role is not ColorInterp.alpha)
        declared = any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums)
        return Header(dataset.width, dataset.height, tuple(dataset.dtypes), colours, declared)


def read_bands(path: Path, bands: Bands, boxes: Sequence[Box]) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """The windows (left, top, right, bottom) of three bands in turn.

    Returns:
        Values (H, W, 3) as they are stored, and bool (H, W), true where there is data. A pixel has none where a band
        is NaN or infinite, masked by a mask or alpha band, or has the nodata value. Zero and the largest integer are
        colours, too (black, saturated): as nodata values they count only where all three bands have them, in regions
        of at least 64 pixels that touch.

    Raises:
        DataError: Missing or damaged; names the file.
    """
    with opened_tiff(path) as dataset:
        for left, top, right, bottom in boxes:
            window = Window(left, top, right - left, bottom - top)
            values = dataset.read(bands, window=window).transpose(1, 2, 0)  # (3, H, W) -> (H, W, 3)
            yield np.ascontiguousarray(values), _has_data(dataset, values, bands, window)


@contextlib.contextmanager
def opened_tiff(path: Path) -> Iterator[rasterio.DatasetReader]:
    """A TIFF, opened; what goes wrong with it inside the block is told as DataError.

    Raises:
        DataError: Missing, damaged or not a TIFF; names the file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. {_MISSING}.")
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a TIFF without a place is an image all the same
            with rasterio.open(path, driver="GTiff") as dataset:
                yield dataset
    except RasterioError as error:
        cause = str(error.__cause__ or error).partition("\n")[0]
        raise DataError(f"{path}: truncated, damaged or no TIFF ({cause}). {_MISSING}.") from None


def _has_data(dataset: rasterio.DatasetReader, values: np.ndarray, bands: Bands, window: Window) -> np.ndarray:
    """bool (H, W): finite, and neither masked, transparent nor nodata, of which GDAL itself tells one alone."""
    there = np.isfinite(values).all(2)
    nodata = dataset.nodatavals[bands[0] - 1]
    flags = {flag for band in bands for flag in dataset.mask_flag_enums[band - 1]}
    if nodata is None or MaskFlags.nodata not in flags:
        if flags != {MaskFlags.all_valid}:
            there &= (dataset.read_masks(bands, window=window) > 0).all(0)
    else:  # masks are of the nodata value, which is looked at below; an alpha band is hidden behind it
        for band in (number for number, role in enumerate(dataset.colorinterp, 1) if role == ColorInterp.alpha):
            there &= dataset.read(band, window=window) > 0
    if nodata is None or np.isnan(nodata):
        return there
    empty = values == nodata
    largest = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else None
    if nodata not in (0, largest):
        return there & ~empty.any(2)
    return there & ~_regions(dataset, bands, window, nodata) if empty.all(2).any() else there


def _regions(dataset: rasterio.DatasetReader, bands: Bands, window: Window, nodata: float) -> np.ndarray:
    """bool (H, W) of a window: nodata in all bands, in a region of the image of at least _REGION pixels.

    Of a region that large that reaches into the window, as many lie within that distance of it.
    """
    left, top = max(0, window.col_off - _REGION), max(0, window.row_off - _REGION)
    right = min(dataset.width, window.col_off + window.width + _REGION)
    bottom = min(dataset.height, window.row_off + window.height + _REGION)
    around = dataset.read(bands, window=Window(left, top, right - left, bottom - top))
    x, y = window.col_off - left, window.row_off - top
    return _large((around == nodata).all(0))[y : y + window.height, x : x + window.width]


def _large(empty: np.ndarray) -> np.ndarray:
    """bool (H, W) without what touches fewer than _REGION others, diagonally too."""
    regions, _ = label(empty, np.ones((3, 3)))
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # what is not empty
    return sizes[regions] >= _REGION
