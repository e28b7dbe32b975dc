"""The pixels of an enlarged raster, window by window: three bands by the model, others by bicubic, gaps as gaps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from ttrd3.data.degrade import SCALE
from ttrd3.inference.assemble import Assembler
from ttrd3.inference.cog import Layout, Pixels, layout_of
from ttrd3.inference.enlarge import bicubic
from ttrd3.inference.ranges import Range, restored
from ttrd3.inference.raster import RasterScene

OtherBands = Literal["drop", "bicubic"]

_REACH = 3  # LR pixels around a window that bicubic depends on


@dataclass
class RasterPixels:
    """Makes the windows of the enlarged raster of a scene.

    A band that stands for several colours (`--bands 1,1,1`) is their mean. Alpha is always kept, enlarged without
    smoothing, as are the borders of what is valid.
    """

    scene: RasterScene
    other_bands: OtherBands

    def __post_init__(self) -> None:
        roles = self.scene.dataset.colorinterp
        every = range(1, self.scene.dataset.count + 1)
        self.alpha = [band for band in every if roles[band - 1] == ColorInterp.alpha and band not in self.scene.bands]
        kept = list(dict.fromkeys(self.scene.bands)) + self.alpha
        self.bands = kept if self.other_bands == "drop" else list(every)
        self.others = [band for band in self.bands if band not in kept]

    def layout(self, about: dict[str, Any]) -> Layout:
        """Of the enlarged raster."""
        return layout_of(self.scene, self.bands, about)

    def spread_layout(self, about: dict[str, Any]) -> Layout:
        """Of the raster of standard deviations: float32, a band for each that the model enlarged, gaps not a number."""
        bands = list(dict.fromkeys(self.scene.bands))
        layout = layout_of(self.scene, bands, about)
        layout.bands = {"descriptions": tuple(f"standard deviation of band {band}" for band in bands)}
        grey = (ColorInterp.gray, *(ColorInterp.undefined for _ in bands[1:]))
        return replace(layout, dtype="float32", nodata=float("nan"), colorinterp=grey, masked=False)

    def limits(self) -> Range:
        """Least and largest value of the file's type on the model's scale."""
        if not np.issubdtype(self.scene.dtype, np.integer):
            return -np.inf, np.inf
        (low, high), type_limits = self.scene.range, np.iinfo(self.scene.dtype)
        return (type_limits.min - low) / (high - low), (type_limits.max - low) / (high - low)

    def pixels(self, assembler: Assembler) -> Iterator[Pixels]:
        """Every window: values in the file's type, and which pixels are valid."""
        for top, left, height, width in assembler.windows():
            colours = self._by_band(assembler.image(top, left, height, width), list(self.scene.bands))
            found = {
                band: restored(values, self.scene.range, self.scene.dtype)
                for band, values in zip(dict.fromkeys(self.scene.bands), colours, strict=True)
            }
            found |= self._alpha(top, left, height, width) | self._others(top, left, height, width)
            values = np.stack([found[band] for band in self.bands])
            valid = self._valid(top, left, height, width)
            if valid is not None:
                self._mark(values, valid)
            yield _enlarged_window(top, left, height, width), values, valid

    def spread(self, assembler: Assembler) -> Iterator[Pixels]:
        """Every window of the standard deviation, in the file's unit."""
        low, high = self.scene.range
        for top, left, height, width in assembler.windows():
            std = assembler.spread(top, left, height, width) * (high - low)
            values = np.stack(self._by_band(std, list(self.scene.bands))).astype(np.float32)
            valid = self._valid(top, left, height, width)
            if valid is not None:
                values[:, ~valid] = np.nan
            yield _enlarged_window(top, left, height, width), values, None

    @staticmethod
    def _by_band(image: np.ndarray, bands: list[int]) -> list[np.ndarray]:
        """(H, W, 3) -> (H, W) for each distinct band."""
        return [
            image[:, :, [place for place, other in enumerate(bands) if other == band]].mean(2)
            for band in dict.fromkeys(bands)
        ]

    def _alpha(self, top: int, left: int, height: int, width: int) -> dict[int, np.ndarray]:
        if not self.alpha:
            return {}
        pixels = self.scene.read_bands(self.alpha, Window(left, top, width, height))
        return dict(zip(self.alpha, pixels.repeat(SCALE, axis=1).repeat(SCALE, axis=2), strict=True))

    def _others(self, top: int, left: int, height: int, width: int) -> dict[int, np.ndarray]:
        if not self.others:
            return {}
        y, x = max(top - _REACH, 0), max(left - _REACH, 0)
        bottom, right = min(top + height + _REACH, self.scene.height), min(left + width + _REACH, self.scene.width)
        pixels = bicubic(self.scene.read_other(self.others, Window(x, y, right - x, bottom - y)))
        pixels = pixels[SCALE * (top - y) :, SCALE * (left - x) :][: SCALE * height, : SCALE * width]
        values = restored(pixels, (0.0, 1.0), self.scene.dtype)
        return dict(zip(self.others, np.moveaxis(values, 2, 0), strict=True))

    def _valid(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        if not self.scene.has_gaps:
            return None
        valid = self.scene.valid(Window(left, top, width, height))
        return valid.repeat(SCALE, axis=0).repeat(SCALE, axis=1)

    def _mark(self, values: np.ndarray, valid: np.ndarray) -> None:
        """Set gaps to nodata, and keep what is valid from becoming nodata by chance."""
        nodata, integer = self.scene.nodata, np.issubdtype(self.scene.dtype, np.integer)
        if nodata is None:
            if not integer:
                values[:, ~valid] = np.nan
            return
        if integer:
            by_chance = valid & (values == nodata).all(0)
            values[:, by_chance] = nodata + 1 if nodata < np.iinfo(self.scene.dtype).max else nodata - 1
        values[:, ~valid] = nodata


def _enlarged_window(top: int, left: int, height: int, width: int) -> Window:
    return Window(SCALE * left, SCALE * top, SCALE * width, SCALE * height)
