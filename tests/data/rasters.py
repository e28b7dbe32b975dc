"""Real TIFFs of any depth, written by rasterio."""

from pathlib import Path

import numpy as np
import rasterio


def write_raster(path: Path, bands: np.ndarray, mask: np.ndarray | None = None, **profile) -> Path:
    """(H, W, bands) as a TIFF without a place; `mask`, bool (H, W), becomes its internal mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = bands.shape
    options = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": bands.dtype} | profile
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **options) as file:
        file.write(bands.transpose(2, 0, 1))
        if mask is not None:
            file.write_mask(mask)
    return path
