"""Writes rasters of any size by windows: Cloud-Optimized GeoTIFFs with overviews, whole or not at all."""

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.rpc import RPC
from rasterio.windows import Window

from ttrd3.data.degrade import SCALE
from ttrd3.errors import UserError
from ttrd3.files import PARTIAL, replacing
from ttrd3.inference.raster import CACHE, RasterScene

BLOCK = 512
TAG = "TTRD3"  # of the file's metadata: how it was made

logger = logging.getLogger(__name__)

_BAND_TEXTS = ("descriptions", "units", "scales", "offsets")


@dataclass
class Layout:
    """Everything about a raster but its pixels.

    Attributes:
        crs: Coordinate reference system, or None.
        transform: Pixels to coordinates.
        bands: Of each band: its description, unit, scale and offset.
        rpcs: Rational polynomials of a scene that is not yet rectified.
        masked: Whether a mask band goes with it.
        about: How it was made, noted in its metadata.
    """

    width: int
    height: int
    count: int
    dtype: str
    about: dict[str, Any]
    crs: Any = None
    transform: rasterio.Affine = field(default_factory=rasterio.Affine.identity)
    nodata: float | None = None
    colorinterp: tuple[ColorInterp, ...] | None = None
    bands: dict[str, tuple] = field(default_factory=dict)
    gcps: list[GroundControlPoint] = field(default_factory=list)
    rpcs: RPC | None = None
    tags: dict[str, str] = field(default_factory=dict)
    masked: bool = False


def layout_of(scene: RasterScene, bands: list[int], about: dict[str, Any]) -> Layout:
    """The layout of the enlarged scene with these of its bands: same place, pixels a quarter as large."""
    dataset = scene.dataset
    gcps, gcp_crs = dataset.gcps
    texts = {name: tuple(getattr(dataset, name)[band - 1] for band in bands) for name in _BAND_TEXTS}
    flags = {flag for flags in dataset.mask_flag_enums for flag in flags}
    return Layout(
        width=SCALE * scene.width,
        height=SCALE * scene.height,
        count=len(bands),
        dtype=str(scene.dtype),
        about=about,
        crs=dataset.crs or gcp_crs,
        transform=dataset.transform @ rasterio.Affine.scale(1 / SCALE),
        nodata=scene.nodata,
        colorinterp=tuple(dataset.colorinterp[band - 1] for band in bands),
        bands=texts,
        gcps=[GroundControlPoint(SCALE * p.row, SCALE * p.col, p.x, p.y, p.z, p.id, p.info) for p in gcps],
        rpcs=_enlarged_rpcs(scene),
        tags={key: value for key, value in dataset.tags().items() if key != TAG},
        masked=flags == {MaskFlags.per_dataset},
    )


def _enlarged_rpcs(scene: RasterScene) -> RPC | None:
    """Rational polynomials of the enlarged scene; None where it has none or, with a warning, damaged ones."""
    try:
        rpcs = scene.dataset.rpcs
    except (KeyError, ValueError, IndexError) as error:
        logger.warning("%s: its RPCs are damaged (%r): the result has none", scene.path, error)
        return None
    if rpcs is None:
        return None
    # Lines and samples count from the centre of the first pixel, which lies amid the first SCALE of the result.
    shift = (SCALE - 1) / 2
    offsets = {name: SCALE * getattr(rpcs, name) + shift for name in ("line_off", "samp_off")}
    scales = {name: SCALE * getattr(rpcs, name) for name in ("line_scale", "samp_scale")}
    return RPC(**(rpcs.to_dict() | offsets | scales))


Pixels = tuple[Window, np.ndarray, np.ndarray | None]
"""A window, its values (bands, H, W), and which pixels are valid (H, W), None for all."""


def write_cog(path: Path, layout: Layout, pixels: Iterator[Pixels]) -> None:
    """Write a Cloud-Optimized GeoTIFF: tiled, compressed without loss, with overviews, BigTIFF where needed.

    Args:
        path: To write.
        layout: All but the pixels.
        pixels: Windows that are whole blocks of BLOCK, but for the last ones.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    plain = path.with_name(f".{path.name}.{os.getpid()}.plain{PARTIAL}")  # what it is made from
    options = {
        "driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": BLOCK, "bigtiff": "IF_SAFER",
        "overviews": "AUTO", "overview_resampling": "AVERAGE",
    }  # fmt: skip
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_TIFF_INTERNAL_MASK=True), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            _write_plain(plain, layout, pixels)
            with replacing(path) as temporary:
                rasterio.shutil.copy(plain, temporary, **options)
                _require_whole(temporary, layout)
    except (RasterioError, OSError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(
            f"{path}: cannot be written ({reason}). Choose a folder that can be written and has space left; "
            "the tiles that are done are kept, and the same command goes on from them."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            plain.unlink()


def space_needed(layout: Layout) -> int:
    """Bytes that `write_cog` takes on the disk, at most: the plain file, and the other with its overviews."""
    return math.ceil(layout.width * layout.height * layout.count * np.dtype(layout.dtype).itemsize * (1 + 4 / 3))


def about_of(path: Path) -> dict[str, Any] | None:
    """What `write_cog` noted in a file; None where it did not write it."""
    with contextlib.suppress(RasterioError, OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as dataset:
            about = json.loads(dataset.tags().get(TAG, ""))
            return about if isinstance(about, dict) else None
    return None


def _write_plain(path: Path, layout: Layout, pixels: Iterator[Pixels]) -> None:
    profile = {
        "driver": "GTiff", "width": layout.width, "height": layout.height, "count": layout.count,
        "dtype": layout.dtype, "nodata": layout.nodata, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK,
        "interleave": "pixel", "compress": "LZW", "bigtiff": "IF_SAFER",
    }  # fmt: skip
    if layout.gcps:
        profile["crs"] = layout.crs
    elif layout.crs is not None or not layout.transform.is_identity:
        profile |= {"crs": layout.crs, "transform": layout.transform}
    with rasterio.open(path, "w", **profile) as out:
        if layout.gcps:
            out.gcps = (layout.gcps, layout.crs)
        if layout.rpcs is not None:
            out.rpcs = layout.rpcs
        for name, values in layout.bands.items():
            setattr(out, name, values)
        if layout.colorinterp:
            out.colorinterp = layout.colorinterp
        out.update_tags(**layout.tags, **{TAG: json.dumps(layout.about, sort_keys=True)})
        for window, values, valid in pixels:
            out.write(values, window=window)
            if layout.masked and valid is not None:
                out.write_mask(valid, window=window)


def _require_whole(path: Path, layout: Layout) -> None:
    """Read the last pixels and overviews back: GDAL does not tell every write that fails."""
    with rasterio.open(path) as found:
        last = Window(max(layout.width - BLOCK, 0), max(layout.height - BLOCK, 0),
                      min(BLOCK, layout.width), min(BLOCK, layout.height))  # fmt: skip
        found.read(window=last)
        if (found.width, found.height, found.count) != (layout.width, layout.height, layout.count):
            raise OSError("what was written is not whole")
        found.read(out_shape=(layout.count, max(layout.height // 16, 1), max(layout.width // 16, 1)), window=last)
