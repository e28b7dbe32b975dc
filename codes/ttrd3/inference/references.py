"""Where a tile's reference comes from: nowhere, one picture, or the same place in a georeferenced scene.

An index of a library plugs in as one more `ReferenceSource`: its `window` describes `view.up`, searches, and returns
the pixels of the best tile (or None); its `identity` is the index's digest.
"""

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


class ReferenceSource(Protocol):
    """Gives tiles their references.

    Attributes:
        identity: Tells what it gives from what others give, for a scene that goes on after an interruption.
    """

    identity: str

    def window(self, view: View) -> np.ndarray | None:
        """uint8 (H, W, 3) for a tile, or None for no reference there.

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

    def window(self, view: View) -> np.ndarray:
        """uint8 (H, W, 3), at most as large as the tile."""
        picture, m = self._picture, self._multiple
        height, width = (
            min(side, there) // m * m
            for side, there in zip(view.up.shape[:2], (picture.height, picture.width), strict=True)
        )
        aspect = (picture.height / picture.width) / (view.of[0] / view.of[1])
        y, x = 0.5, 0.5
        if abs(aspect - 1) < _SAME_ASPECT:
            y, x = (view.top + view.height / 2) / view.of[0], (view.left + view.width / 2) / view.of[1]
        top = round(min(max(y * picture.height - height / 2, 0), picture.height - height))
        left = round(min(max(x * picture.width - width / 2, 0), picture.width - width))
        return as_bytes(picture.read(top, left, height, width))


def require_content(pixels: np.ndarray, name: str) -> None:
    """Refuse a reference that shows nothing.

    Raises:
        DataError: All pixels are the same.
    """
    if pixels.size == 0 or np.ptp(pixels.reshape(-1, pixels.shape[-1]), axis=0).max() == 0:
        raise DataError(f"{name}: the reference is blank. Use one that shows something, or --reference none.")
