"""References from the same place: windows of a georeferenced scene, brought to the grid of the image to enlarge."""

import contextlib

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from ttrd3.data.degrade import SCALE
from ttrd3.errors import DataError
from ttrd3.inference.pictures import file_identity
from ttrd3.inference.ranges import as_bytes, normalised
from ttrd3.inference.raster import RasterScene, declared_valid, explained, filled
from ttrd3.inference.references import Excerpt, View, require_content

_LEAST_VALID = 0.25  # share of a tile's window below which the tile has no reference


class GeoReference:
    """The overlapping window of another scene, reprojected where its CRS differs, at the enlarged image's pixels."""

    def __init__(self, reference: RasterScene, scene: RasterScene, stack: contextlib.ExitStack):
        """Check that the two overlap.

        Args:
            reference: Open for as long as `stack`.
            scene: The LR image, georeferenced.
            stack: Closes what is opened here.

        Raises:
            DataError: No overlap, or a blank reference.
        """
        require_content(reference.preview(), str(reference.path))
        self.identity = file_identity(reference.path)
        self._reference = reference
        target, source = scene.dataset, reference.dataset
        require_overlap(reference, scene)
        # Alpha tells where the reference ends, and carries an internal mask over, which would else be lost.
        unmarked = source.nodata is None and ColorInterp.alpha not in source.colorinterp
        with explained(reference.path):
            warped = WarpedVRT(
                source,
                crs=target.crs,
                transform=target.transform @ target.transform.scale(1 / SCALE),
                width=scene.width * SCALE,
                height=scene.height * SCALE,
                resampling=Resampling.cubic,
                add_alpha=unmarked,
            )
        self._warped = stack.enter_context(warped)

    def window(self, view: View) -> Excerpt | None:
        """As large as the tile; None where the reference covers too little of it."""
        height, width = view.up.shape[:2]
        full = Window(SCALE * view.left, SCALE * view.top, SCALE * view.width, SCALE * view.height)
        with explained(self._reference.path):
            pixels = self._warped.read(self._reference.bands, window=full)
            valid = declared_valid(self._warped, self._reference.bands, window=full)
        if not np.issubdtype(pixels.dtype, np.integer):
            valid &= np.isfinite(pixels).all(0)
        if valid.mean() < _LEAST_VALID:
            return None
        pixels = filled(pixels, valid).transpose(1, 2, 0)
        if self._reference.dtype != np.uint8 or self._reference.range != (0, 255):
            pixels = as_bytes(normalised(pixels, self._reference.range))
        rows, columns = height - pixels.shape[0], width - pixels.shape[1]
        pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
        return Excerpt(None, lambda: pixels)  # of this place alone


def is_georeferenced(scene: RasterScene) -> bool:
    """Whether its file says where it lies."""
    return scene.dataset.crs is not None and not scene.dataset.transform.is_identity


def require_overlap(reference: RasterScene, scene: RasterScene) -> None:
    """Refuse a reference that shows another place.

    Raises:
        DataError: Names both extents.
    """
    here, there = extent(scene, scene.dataset.crs), extent(reference, scene.dataset.crs)
    if here[0] >= there[2] or there[0] >= here[2] or here[1] >= there[3] or there[1] >= here[3]:
        raise DataError(
            f"{scene.path}: the reference {reference.path} does not overlap it: it spans {_text(there)}, the image "
            f"{_text(here)} ({scene.dataset.crs}). Use a reference of the same place, or --reference none."
        )


def extent(scene: RasterScene, crs: CRS) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in a CRS.

    Raises:
        DataError: The place cannot be expressed in it.
    """
    ends = [(x, y) for x in (0, scene.width) for y in (0, scene.height)]
    corners = [scene.dataset.transform @ end for end in ends]  # of rotated ones too
    xs, ys = zip(*corners, strict=True)
    bounds = min(xs), min(ys), max(xs), max(ys)
    with explained(scene.path):
        return transform_bounds(scene.dataset.crs, crs, *bounds)


def _text(bounds: tuple[float, float, float, float]) -> str:
    return f"{bounds[0]:.6g}..{bounds[2]:.6g} by {bounds[1]:.6g}..{bounds[3]:.6g}"
