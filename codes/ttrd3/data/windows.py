"""Windows of images of any size: GeoTIFFs read in part by rasterio, other formats decoded as a whole."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ttrd3.data.images import read_rgb, read_size
from ttrd3.data.tiling import Box
from ttrd3.errors import DataError

_TIFF = frozenset({".tif", ".tiff"})
_CACHE_BYTES = 64 * 2**20  # of decoded blocks: a row of windows meets the same strips of a file again and again
_MISSING = "Fetch it again, or leave it out (--skip-bad)"


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the file's header alone.

    Raises:
        DataError: Missing, not an image, or a TIFF that is not 8-bit RGB; names the file.
    """
    if not in_parts(path):
        return read_size(path)
    with _opened(path) as dataset:
        return dataset.width, dataset.height


def in_parts(path: Path) -> bool:
    """Whether a window of the file can be read without decoding all of it."""
    return path.suffix.lower() in _TIFF


def read_windows(path: Path, boxes: Sequence[Box]) -> Iterator[np.ndarray]:
    """The windows (left, top, right, bottom) of an image in turn, each uint8 (H, W, 3).

    Raises:
        DataError: Missing, damaged, not 8-bit RGB, or smaller than a window; names the file.
    """
    if in_parts(path):
        with _opened(path) as dataset:
            for box in boxes:
                _require_inside(path, box, dataset.width, dataset.height)
                left, top, right, bottom = box
                bands = dataset.read(window=Window(left, top, right - left, bottom - top))
                yield np.ascontiguousarray(bands.transpose(1, 2, 0))  # (3, H, W) -> (H, W, 3)
        return
    image = read_rgb(path)
    for box in boxes:
        _require_inside(path, box, image.shape[1], image.shape[0])
        left, top, right, bottom = box
        yield np.ascontiguousarray(image[top:bottom, left:right])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    if not path.is_file():
        raise DataError(f"{path}: no such file. {_MISSING}.")
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a TIFF without a place is an image all the same
            with rasterio.open(path, driver="GTiff") as dataset:
                if dataset.count != 3 or set(dataset.dtypes) != {"uint8"}:
                    raise DataError(
                        f"{path}: found {dataset.count} bands of {dataset.dtypes[0]}, expected 8-bit RGB. "
                        "Save its red, green and blue as 8-bit RGB, scaled alike for all images, or leave it out "
                        "(--skip-bad)."
                    )
                yield dataset
    except RasterioError as error:
        cause = str(error.__cause__ or error).partition("\n")[0]
        raise DataError(f"{path}: truncated, damaged or no TIFF ({cause}). {_MISSING}.") from None


def _require_inside(path: Path, box: Box, width: int, height: int) -> None:
    if box[2] > width or box[3] > height:
        raise DataError(
            f"{path}: found {width} x {height} pixels, expected a window {box} to fit in. "
            "The file was changed: run `ttrd3 index` again."
        )
