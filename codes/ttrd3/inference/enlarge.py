"""LR windows -> enlarged windows by bicubic: for 8 bits the training's, to the last bit; else the same in float32."""

from typing import Protocol

import numpy as np
from PIL import Image

from ttrd3.data.degrade import SCALE, up_from_lr

_REACH = 3  # LR pixels around a window that its bicubic depends on


class Scene(Protocol):
    """An LR image of any size that is read by windows.

    Attributes:
        height: LR pixels.
        width: LR pixels.
        identity: Tells this image from others and from other states of the same file.
    """

    height: int
    width: int
    identity: str

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window inside the image: uint8 (height, width, 3), or float32 where 0..1 is what the model sees.

        Raises:
            DataError: The file cannot be read there.
        """

    def is_empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Whether a window holds no valid pixel at all, so that nothing needs to be restored there."""

    def preview(self) -> np.ndarray:
        """The whole image as uint8 (h, w, 3), of a large one every n-th pixel."""


def bicubic(window: np.ndarray) -> np.ndarray:
    """uint8 or float32 (h, w, C) -> float32 (4 h, 4 w, C); uint8 0..255 becomes 0..1."""
    if window.dtype == np.uint8:
        return up_from_lr(window).astype(np.float32) / 255
    size = (window.shape[1] * SCALE, window.shape[0] * SCALE)
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(window, 2, 0)]
    return np.stack([np.asarray(band.resize(size, Image.Resampling.BICUBIC)) for band in bands], axis=2)


def enlarged(scene: Scene, top: int, left: int, height: int, width: int, *, excess: bool = False) -> np.ndarray:
    """A window of the enlarged image, as if the whole had been enlarged: float32 (4 height, 4 width, 3).

    Args:
        scene: The LR image.
        top: First row, LR pixels.
        left: First column, LR pixels.
        height: Rows, LR pixels.
        width: Columns, LR pixels.
        excess: Enlarge what lies below 0 or above 1, which the model cannot see, instead of what it can.
    """
    y, x = max(top - _REACH, 0), max(left - _REACH, 0)
    window = scene.read(y, x, min(top + height + _REACH, scene.height) - y, min(left + width + _REACH, scene.width) - x)
    if window.dtype != np.uint8:
        seen = np.clip(window, 0, 1)
        window = window - seen if excess else seen
    elif excess:
        return np.zeros((SCALE * height, SCALE * width, 3), np.float32)
    up = bicubic(window)[SCALE * (top - y) :, SCALE * (left - x) :][: SCALE * height, : SCALE * width]
    return up if excess else np.clip(up, 0, 1)


def continued(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) -> (height, width, C), continued at the bottom and on the right by mirror images of itself."""
    rows, columns = height - image.shape[0], width - image.shape[1]
    return np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="symmetric") if rows or columns else image
