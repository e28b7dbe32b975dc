"""Finished tiles -> windows of the enlarged image: blended by ramps, with what the model could not see added back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ttrd3.data.degrade import SCALE
from ttrd3.inference.consistent import HALO, project
from ttrd3.inference.enlarge import Scene, enlarged
from ttrd3.inference.grid import Grid
from ttrd3.inference.store import TileStore

WINDOW = 128  # LR pixels: a side of the windows that an image is put together by


@dataclass
class Assembler:
    """Puts an image together.

    Attributes:
        consistent: Project the image so that its bicubic reduction is the LR image.
        limits: Least and largest value that the output can hold, where 0..1 is the model's range.
    """

    scene: Scene
    grid: Grid
    store: TileStore
    consistent: bool
    limits: tuple[float, float] = (0.0, 1.0)

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window given in LR pixels -> float32 (4 height, 4 width, 3)."""
        if not self.consistent:
            return self._blended(top, left, height, width)
        y, x = max(top - HALO, 0), max(left - HALO, 0)
        rows = min(top + height + HALO, self.scene.height) - y
        columns = min(left + width + HALO, self.scene.width) - x
        lr = self.scene.read(y, x, rows, columns)
        lr = lr.astype(np.float32) / 255 if lr.dtype == np.uint8 else lr
        whole = project(self._blended(y, x, rows, columns), lr, *self.limits)
        return whole[SCALE * (top - y) :, SCALE * (left - x) :][: SCALE * height, : SCALE * width]

    def spread(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """The standard deviation over the samples in a window, float32 (4 height, 4 width, 3)."""
        return self._sum(3, top, left, height, width)

    def _blended(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self._sum(0, top, left, height, width) + enlarged(self.scene, top, left, height, width, excess=True)

    def _sum(self, channel: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Weighted sum of three channels of the tiles, always in the order of their numbers."""
        top, left, height, width = (SCALE * value for value in (top, left, height, width))
        out = np.zeros((3, height, width), np.float32)
        rows, columns = self.grid.rows, self.grid.columns
        for row in rows.covering(top, top + height):
            for column in columns.covering(left, left + width):
                y, x = SCALE * rows.starts[row] - top, SCALE * columns.starts[column] - left
                down, across = rows.weights(row), columns.weights(column)
                y0, x0 = max(y, 0), max(x, 0)
                y1, x1 = min(y + len(down), height), min(x + len(across), width)
                weight = down[y0 - y : y1 - y, None] * across[None, x0 - x : x1 - x]
                if weight.any():
                    tile = self.store.get(row * len(columns.starts) + column)[channel : channel + 3]
                    out[:, y0:y1, x0:x1] += weight * tile[:, y0 - y : y1 - y, x0 - x : x1 - x]
        return out.transpose(1, 2, 0)

    def windows(self) -> list[tuple[int, int, int, int]]:
        """(top, left, height, width) of all windows in LR pixels, row by row."""
        height, width = self.scene.height, self.scene.width
        return [
            (top, left, min(WINDOW, height - top), min(WINDOW, width - left))
            for top in range(0, height, WINDOW)
            for left in range(0, width, WINDOW)
        ]

    def whole(self, convert: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
        """The image in memory, (4 height, 4 width, 3): what `convert` makes of each float32 window."""
        return self._gathered(self.image, convert)

    def whole_spread(self) -> np.ndarray:
        """The standard deviation in memory, float32 (4 height, 4 width, 3)."""
        return self._gathered(self.spread, np.asarray)

    def _gathered(self, part: Callable[..., np.ndarray], convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        out: np.ndarray | None = None
        for top, left, height, width in self.windows():
            window = convert(part(top, left, height, width))
            if out is None:
                out = np.empty((SCALE * self.scene.height, SCALE * self.scene.width, 3), window.dtype)
            out[SCALE * top : SCALE * (top + height), SCALE * left : SCALE * (left + width)] = window
        return out
