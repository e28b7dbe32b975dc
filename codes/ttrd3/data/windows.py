"""Windows of images of any size: GeoTIFFs read in part by rasterio, other formats decoded as a whole."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from ttrd3.data.images import read_rgb, read_size
from ttrd3.data.rasters import Box, is_tiff, opened_tiff, read_bands, read_header
from ttrd3.errors import DataError


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
    return is_tiff(path)


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


def whole_windows(path: Path, boxes: Sequence[Box]) -> list[Box]:
    """Those windows in which every pixel has data, by the rules of `read_bands`; all of a picture that is no TIFF.

    Raises:
        DataError: What `read_windows` refuses; names the file.
    """
    if not in_parts(path) or not read_header(path).masked:
        return list(boxes)
    size = size_of(path)
    for box in boxes:
        _require_inside(path, box, *size)
    return [box for box, (_, there) in zip(boxes, read_bands(path, (1, 2, 3), boxes), strict=True) if there.all()]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    with opened_tiff(path) as dataset:
        if dataset.count != 3 or set(dataset.dtypes) != {"uint8"}:
            raise DataError(
                f"{path}: found {dataset.count} bands of {dataset.dtypes[0]}, expected 8-bit RGB. "
                "Make it so by `ttrd3 prepare --bands --scale` and index the prepared folder, or leave it out "
                "(--skip-bad)."
            )
        yield dataset


def _require_inside(path: Path, box: Box, width: int, height: int) -> None:
    if box[2] > width or box[3] > height:
        raise DataError(
            f"{path}: found {width} x {height} pixels, expected a window {box} to fit in. "
            "The file was changed: run `ttrd3 index` again."
        )
