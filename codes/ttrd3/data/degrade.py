"""The x4 bicubic degradation of the paper, exact to the last bit (Pillow's antialiased BICUBIC in 8 bits)."""

import numpy as np
from PIL import Image

from ttrd3.errors import DataError

SCALE = 4


def lr_from_hr(hr: np.ndarray) -> np.ndarray:
    """HR uint8 (H, W, 3) -> LR uint8 (H/4, W/4, 3).

    Raises:
        DataError: H or W is not a multiple of 4.
    """
    height, width = hr.shape[:2]
    if height % SCALE or width % SCALE or not height or not width:
        raise DataError(
            f"an image of {width} x {height} pixels cannot be reduced by {SCALE}: expected multiples of {SCALE}. "
            "Crop it, or cut tiles with `ttrd3 prepare`."
        )
    return _resized(hr, width // SCALE, height // SCALE)


def up_from_lr(lr: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """LR uint8 (h, w, 3) -> up uint8 (4 h, 4 w, 3), or scale times larger, rounded to 8 bits."""
    height, width = lr.shape[:2]
    return _resized(lr, width * scale, height * scale)


def degrade(hr: np.ndarray) -> np.ndarray:
    """HR uint8 (H, W, 3) -> what is left of it after x1/4 and x4, same shape.

    Raises:
        DataError: H or W is not a multiple of 4.
    """
    return up_from_lr(lr_from_hr(hr))


def _resized(array: np.ndarray, width: int, height: int) -> np.ndarray:
    # Rows first, then columns, as Pillow always did until it began (13.0) to take narrow images the other way round;
    # each pass rounds to 8 bits, so the order shows in the last bit.
    rows = Image.fromarray(array).resize((width, array.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(rows.resize((width, height), Image.Resampling.BICUBIC))
