"""TIFF and GeoTIFF files as scenes: read by windows of three bands, whatever their type, with what is not valid."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from scipy.ndimage import distance_transform_edt

from ttrd3.errors import DataError
from ttrd3.inference.pictures import file_identity
from ttrd3.inference.ranges import BYTE, Range, as_bytes, find_range, normalised, require_plausible

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".tif", ".tiff"})

CACHE = 64 * 2**20  # bytes of decoded blocks that GDAL keeps
_LARGEST_BLOCK = 2**30  # bytes
_PREVIEW = 1024
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


class RasterScene:
    """Three bands of an open raster, as the model sees them."""

    def __init__(
        self, path: Path, dataset: rasterio.DatasetReader, bands: Sequence[int] | None, declared: Range | None
    ):
        """Look at the header and at a sample of the values.

        Args:
            path: For messages.
            dataset: Open.
            bands: Red, green and blue, from 1; None: as the file says, else the only three there are.
            declared: Values that are black and white; None: 0..255 for 8 bits, else found.

        Raises:
            DataError: Bands, type, values or layout cannot be used.
        """
        self.path, self.dataset = path, dataset
        self.height, self.width = dataset.height, dataset.width
        self.identity = file_identity(path)
        self.bands = _chosen(path, dataset, bands)
        self.dtype = np.dtype(_require_type(path, dataset))
        _require_small_blocks(path, dataset)
        flags = {flag for index in self.bands for flag in dataset.mask_flag_enums[index - 1]}
        self.masked = flags != {MaskFlags.all_valid}
        self.has_gaps = self.masked or not np.issubdtype(self.dtype, np.integer)
        values = self._sample()
        if declared is not None:
            require_plausible(declared, values, str(path))
        # Some files declare a value that their type cannot hold: no pixel has it, and no file could be written with it.
        nodata = dataset.nodata
        held = nodata is None or not np.issubdtype(self.dtype, np.integer) or _holds(self.dtype, nodata)
        self.nodata = nodata if held else None
        self.range = declared or find_range(values, self.dtype, str(path))
        if declared is None and self.dtype != np.uint8:
            logger.info("%s: values %g to %g are taken as black to white (--range)", path, *self.range)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """uint8 as in the file, or float32 where the range is 0..1; (height, width, 3); gaps take the nearest pixel."""
        window = Window(left, top, width, height)
        pixels = self.read_bands(self.bands, window)
        if self.has_gaps:
            pixels = filled(pixels, self.valid(window, pixels))
        pixels = pixels.transpose(1, 2, 0)
        if self.dtype == np.uint8 and self.range == BYTE:
            return np.ascontiguousarray(pixels)
        return normalised(pixels, self.range)

    def read_bands(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """(bands, height, width) as in the file.

        Raises:
            DataError: The file is damaged there.
        """
        with explained(self.path):
            return self.dataset.read(list(indexes), window=window)

    def read_other(self, indexes: Sequence[int], window: Window) -> np.ndarray:
        """`read_bands` with gaps filled, as float32 (height, width, bands)."""
        pixels = self.read_bands(indexes, window)
        if self.has_gaps:
            pixels = filled(pixels, self.valid(window, pixels))
        return pixels.transpose(1, 2, 0).astype(np.float32)

    def valid(self, window: Window, pixels: np.ndarray | None = None) -> np.ndarray:
        """bool (height, width): neither nodata nor masked nor transparent, and all bands finite."""
        there = self._declared_valid(window=window)
        if not np.issubdtype(self.dtype, np.integer):
            pixels = self.read_bands(self.bands, window) if pixels is None else pixels
            there &= np.isfinite(pixels).all(0)
        return there

    def is_empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Whether a window holds no valid pixel."""
        return self.has_gaps and not self.valid(Window(left, top, width, height)).any()

    def preview(self) -> np.ndarray:
        """Every n-th pixel, uint8."""
        pixels, valid = self._decimated()
        if not valid.any():
            return np.zeros((0, 0, 3), np.uint8)
        pixels = pixels.transpose(1, 2, 0)[valid][None]
        eight_bit = self.dtype == np.uint8 and self.range == BYTE
        return pixels if eight_bit else as_bytes(normalised(pixels, self.range))

    def _sample(self) -> np.ndarray:
        """Values of valid pixels: of every n-th, or, where none of those is valid, of the first block that has some."""
        pixels, valid = self._decimated()
        if not valid.any() and self.has_gaps:
            for window in self._strips():
                pixels = self.read_bands(self.bands, window)
                valid = self.valid(window, pixels)
                if valid.any():
                    break
        return pixels[:, valid].ravel()

    def _declared_valid(self, **part: Any) -> np.ndarray:
        """bool (h, w): neither nodata nor masked nor transparent."""
        with explained(self.path):
            return declared_valid(self.dataset, self.bands, **part)

    def _decimated(self) -> tuple[np.ndarray, np.ndarray]:
        shape = [min(side, _PREVIEW) for side in (self.height, self.width)]
        with explained(self.path):
            pixels = self.dataset.read(self.bands, out_shape=(3, *shape))
        valid = self._declared_valid(out_shape=tuple(shape))
        if not np.issubdtype(self.dtype, np.integer):
            valid &= np.isfinite(pixels).all(0)
        return pixels, valid

    def _strips(self) -> Iterator[Window]:
        for top in range(0, self.height, _PREVIEW):
            for left in range(0, self.width, _PREVIEW):
                yield Window(left, top, min(_PREVIEW, self.width - left), min(_PREVIEW, self.height - top))


def declared_valid(dataset: rasterio.DatasetReader | WarpedVRT, bands: Sequence[int], **part: Any) -> np.ndarray:
    """Where an open raster has data by its nodata value, mask and alpha band, of which GDAL's own mask tells one alone.

    Args:
        dataset: Open.
        bands: Those whose nodata counts: a pixel has none where all of them hold it.
        part: `window` or `out_shape`, as rasterio takes them.

    Returns:
        bool (h, w).
    """
    flags = {flag for band in bands for flag in dataset.mask_flag_enums[band - 1]}
    if MaskFlags.nodata in flags:  # which hides an alpha band
        there = np.logical_or.reduce([dataset.read_masks(band, **part) > 0 for band in bands])
        for band in (number for number, role in enumerate(dataset.colorinterp, 1) if role == ColorInterp.alpha):
            there &= dataset.read(band, **part) > 0
        return there
    there = dataset.dataset_mask(**part) > 0
    if dataset.nodata is not None and flags != {MaskFlags.all_valid}:  # a mask, which hides the nodata value
        values = (dataset.read(band, **part) for band in bands)
        there &= ~np.logical_and.reduce([value == dataset.nodata for value in values])
    return there


@contextlib.contextmanager
def open_raster(path: Path) -> Iterator[rasterio.DatasetReader]:
    """An open TIFF, of which GDAL keeps little in memory.

    Raises:
        DataError: Missing, empty, or no TIFF.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty. Fetch it again, or leave it out.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)  # `declared_valid` looks at the alpha band too
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_TIFF_INTERNAL_MASK=True))
        with explained(path):
            dataset = rasterio.open(path, driver="GTiff")
        yield stack.enter_context(dataset)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """What GDAL cannot read in the block is told as a DataError of one line."""
    try:
        yield
    except (RasterioError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise DataError(
            f"{path}: is no TIFF, truncated or damaged, or not allowed to be read ({reason}). "
            "Fetch it again, or leave it out."
        ) from None


def reference_bands(path: Path, dataset: rasterio.DatasetReader, asked: Sequence[int] | None) -> list[int]:
    """Red, green and blue of a reference: as its file says, else its only three, else those asked of the image.

    Args:
        path: For messages.
        dataset: The reference, open.
        asked: --bands, which are the image's; a file that marks its colours, or has no others, knows better.

    Raises:
        DataError: Nothing says which they are, or it lacks some of those that are asked for.
    """
    found = _own_bands(path, dataset)
    if len(found) == 3:
        return found
    if asked is not None and set(asked) <= set(found):
        return list(asked)
    given = "--bands was not given" if asked is None else f"it lacks some of --bands {','.join(map(str, asked))}"
    raise DataError(
        f"{path}: the reference: {_unmarked(found)}, and {given}. Give --bands R,G,B that both files have, or make the "
        "reference RGB (`gdal_translate -b R -b G -b B`)."
    )


def _chosen(path: Path, dataset: rasterio.DatasetReader, bands: Sequence[int] | None) -> list[int]:
    if bands is not None:
        if max(bands) > dataset.count:
            raise DataError(f"{path}: --bands {','.join(map(str, bands))}: the file has {dataset.count} bands.")
        return list(bands)
    found = _own_bands(path, dataset)
    if len(found) != 3:
        way_out = "--bands 1,1,1 upscales one band" if len(found) < 3 else "choose red, green and blue: --bands R,G,B"
        raise DataError(f"{path}: {_unmarked(found)}; {way_out}.")
    return found


def _own_bands(path: Path, dataset: rasterio.DatasetReader) -> list[int]:
    """Those marked as red, green and blue; without such marks all but alpha."""
    roles = list(dataset.colorinterp)
    if ColorInterp.palette in roles:
        raise DataError(f"{path}: found a palette, expected RGB. Expand it (`gdal_translate -expand rgb`).")
    if all(roles.count(role) == 1 for role in _RGB):
        return [roles.index(role) + 1 for role in _RGB]
    return [index for index in range(1, dataset.count + 1) if roles[index - 1] != ColorInterp.alpha]


def _unmarked(bands: list[int]) -> str:
    plural = "s" * (len(bands) != 1)
    return f"found {len(bands)} band{plural} that are not marked as colours, expected red, green and blue"


def _require_type(path: Path, dataset: rasterio.DatasetReader) -> str:
    kinds = set(dataset.dtypes)
    if len(kinds) > 1 or not kinds <= set(_TYPES):
        raise DataError(
            f"{path}: holds {', '.join(sorted(kinds))} values, expected one of {', '.join(_TYPES)}. "
            "Convert it (`gdal_translate -ot`)."
        )
    return kinds.pop()


def _require_small_blocks(path: Path, dataset: rasterio.DatasetReader) -> None:
    """A block is decoded as a whole, however small the window."""
    rows, columns = dataset.block_shapes[0]
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1  # bands of one block
    size = rows * columns * together * np.dtype(dataset.dtypes[0]).itemsize
    if size > _LARGEST_BLOCK:
        raise DataError(
            f"{path}: its blocks of {columns} x {rows} pixels take {size / 1e9:.1f} GB each, expected at most "
            f"{_LARGEST_BLOCK / 1e9:.1f} GB. Rewrite it in tiles (`gdal_translate -co TILED=YES`)."
        )


def _holds(dtype: np.dtype, value: float) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max and value == int(value)


def filled(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(bands, h, w) with the nearest valid pixel where it is not valid; zeros where there is none."""
    if valid.all():
        return pixels
    if not valid.any():
        return np.zeros_like(pixels)
    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return pixels[:, nearest[0], nearest[1]]
