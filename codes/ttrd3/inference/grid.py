"""Where the tiles of an image lie and how much each counts at a pixel: ramps over the overlaps that add up to one."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttrd3.data.degrade import SCALE

SMALLEST = 16  # LR pixels: an image below this is continued by its mirror image before the networks see it


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of an image. Lengths are LR pixels; the enlarged image is SCALE times as long.

    At most two tiles count at any pixel: neighbours are blended by a linear ramp of the length `overlap`, which lies
    in the middle of what they share. Tiles are spread evenly, so that the last needs no continuation.

    Attributes:
        length: Of the image.
        tile: Of a tile, a multiple of `multiple`.
        overlap: Least overlap of neighbours, at most a third of the tile.
        multiple: Tiles of an image shorter than a tile have a multiple of this.
    """

    length: int
    tile: int
    overlap: int
    multiple: int

    @cached_property
    def size(self) -> int:
        """Of every tile: `tile`, or less for a short image, whose end is then continued by its mirror image."""
        shortest = -(-max(self.length, SMALLEST) // self.multiple) * self.multiple
        return min(self.tile, shortest)

    @cached_property
    def starts(self) -> list[int]:
        """First LR pixel of each tile."""
        if self.length <= self.size:
            return [0]
        count = math.ceil((self.length - self.overlap) / (self.size - self.overlap))
        return [round(i * (self.length - self.size) / (count - 1)) for i in range(count)]

    def weights(self, number: int) -> np.ndarray:
        """How much tile `number` counts at each of its enlarged pixels, float32 (SCALE size,); sums to 1 over tiles."""
        position = np.arange(SCALE * self.size) + 0.5 + SCALE * self.starts[number]
        weight = np.ones(SCALE * self.size)
        if number > 0:
            weight = self._rise(position, number - 1)
        if number < len(self.starts) - 1:
            weight = weight * (1 - self._rise(position, number))
        return weight.astype(np.float32)

    def covering(self, begin: int, end: int) -> list[int]:
        """Numbers of the tiles that have a pixel of begin..end (enlarged pixels), ascending."""
        span = SCALE * self.size
        return [i for i, start in enumerate(self.starts) if SCALE * start < end and SCALE * start + span > begin]

    def _rise(self, position: np.ndarray, pair: int) -> np.ndarray:
        """0 to 1 across the ramp between tiles `pair` and `pair + 1`."""
        middle = SCALE * (self.starts[pair] + self.size + self.starts[pair + 1]) / 2
        ramp = max(SCALE * self.overlap, 1)
        return np.clip((position - middle) / ramp + 0.5, 0, 1)


@dataclass(frozen=True)
class Grid:
    """Tiles of an image, numbered row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def place(self, number: int) -> tuple[int, int]:
        """(top, left) of a tile in LR pixels."""
        row, column = divmod(number, len(self.columns.starts))
        return self.rows.starts[row], self.columns.starts[column]

    @property
    def tile_shape(self) -> tuple[int, int]:
        """(height, width) of every tile in LR pixels."""
        return self.rows.size, self.columns.size


def make_grid(height: int, width: int, tile: int, overlap: int, multiple: int) -> Grid:
    """The tiles of an LR image of height x width; `tile`, `overlap` and `multiple` are in enlarged pixels."""
    sides = tile // SCALE, overlap // SCALE, multiple // SCALE
    return Grid(Axis(height, *sides), Axis(width, *sides))
