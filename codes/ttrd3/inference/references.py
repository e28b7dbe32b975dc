"""Where a tile's reference comes from: nowhere, or one picture; georeference.py has the same place in another scene,
retrieval.py the tile of a library that looks most alike.
"""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ttrd3.data.degrade import SCALE
from ttrd3.errors import DataError
from ttrd3.inference.enlarge import Scene
from ttrd3.inference.ranges import as_bytes

_SAME_ASPECT = 0.01


@dataclass(frozen=True)
class View:
    """The tile that wants a reference.

    Attributes:
        top: First row in the LR image; the others are LR pixels too.
        left: First column.
        height: Rows.
        width: Columns.
        of: (height, width) of the whole LR image.
        up: uint8 (H, W, 3), the tile enlarged by bicubic: 4 height x 4 width pixels, or more where a short image is
            continued.
    """

    top: int
    left: int
    height: int
    width: int
    of: tuple[int, int]
    up: np.ndarray


@dataclass(frozen=True)
class Excerpt:
    """The reference of a tile: pixels that are read only where their features are not at hand.

    Attributes:
        key: Excerpts with equal keys, from whatever source, have equal pixels; None: no other tile will have this one,
            so that its features need not be kept.
        pixels: Gives uint8 (H, W, 3), both sides a multiple of what the networks take.

            Raises:
                DataError: A file that cannot be read.
    """

    key: Hashable | None
    pixels: Callable[[], np.ndarray]


class ReferenceSource(Protocol):
    """Gives tiles their references.

    Attributes:
        identity: Tells what it gives from what others give, for a scene that goes on after an interruption.
    """

    identity: str

    def window(self, view: View) -> Excerpt | None:
        """The reference of a tile, a function of the view alone, or None for no reference there.

        Raises:
            DataError: A file that cannot be read.
        """


class NoReference:
    """No tile has a reference."""

    identity = "none"

    def window(self, view: View) -> None:  # noqa: ARG002 - one interface
        """None."""
        return


class PictureReference:
    """Windows of one picture, as large as the tile.

    If the picture has the shape of the image to enlarge, each tile takes the same place in it; otherwise its middle.
    """

    def __init__(self, picture: Scene, name: str, multiple: int):
        """Check the picture.

        Args:
            picture: The reference image.
            name: For messages.
            multiple: The networks take sides that are a multiple of this.

        Raises:
            DataError: It is too small or blank.
        """
        least = max(multiple, 2 * SCALE)
        if min(picture.height, picture.width) < least:
            raise DataError(
                f"{name}: a reference of {picture.width} x {picture.height} pixels, expected at least {least} x "
                f"{least}. Use a larger one, or --reference none."
            )
        self.identity = picture.identity
        self._picture, self._multiple = picture, multiple
        require_content(picture.preview(), name)

    def window(self, view: View) -> Excerpt:
        """At most as large as the tile."""
        picture = self._picture
        height, width = shared_size(view.up.shape[:2], (picture.height, picture.width), self._multiple)
        aspect = (picture.height / picture.width) / (view.of[0] / view.of[1])
        y, x = 0.5, 0.5
        moves = abs(aspect - 1) < _SAME_ASPECT
        if moves:
            y, x = (view.top + view.height / 2) / view.of[0], (view.left + view.width / 2) / view.of[1]
        top = round(min(max(y * picture.height - height / 2, 0), picture.height - height))
        left = round(min(max(x * picture.width - width / 2, 0), picture.width - width))
        pixels = as_bytes(picture.read(top, left, height, width))
        alone = moves and (view.height, view.width) != view.of
        return Excerpt(None if alone else _digest(pixels), lambda: pixels)


def shared_size(tile: tuple[int, ...], there: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """(height, width) of the largest window that fits in both and that the networks take."""
    height, width = (min(sides) // multiple * multiple for sides in zip(tile, there, strict=True))
    return height, width


def require_content(pixels: np.ndarray, name: str) -> None:
    """Refuse a reference that shows nothing.

    Raises:
        DataError: All pixels are the same.
    """
    if pixels.size == 0 or np.ptp(pixels.reshape(-1, pixels.shape[-1]), axis=0).max() == 0:
        raise DataError(f"{name}: the reference is blank. Use one that shows something, or --reference none.")


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()
