"""Pixels without data: filled before the degradation, and masked wherever the LR could have seen the filling."""

import numpy as np
from scipy.ndimage import distance_transform_edt, minimum_filter

from ttrd3.data.degrade import SCALE

# An LR pixel is made of the 4 * SCALE HR pixels around its centre (antialiased bicubic), an enlarged one of 4 LR
# pixels, which lie within 2 to each side of the cell's own.
_REDUCTION = 4 * SCALE + 1
_ENLARGEMENT = 5
LEAST = 20  # pixels; a square of this side, on the LR grid, holds a window of every metric: SSIM's 11, consistency's 17


def filled(image: np.ndarray, there: np.ndarray) -> np.ndarray:
    """`image` uint8 (H, W, 3) with the nearest pixel that has data in place of each that has none (~`there`, (H, W)).

    No edge arises that the degradation could smear into the data, as a black fill would do.
    """
    _, (rows, columns) = distance_transform_edt(~there, return_indices=True)
    return image[rows, columns]


def untouched(there: np.ndarray) -> np.ndarray:
    """bool (H, W) -> bool (H, W): where HR, LR and the enlarged LR do not depend on what stands in pixels without data.

    Constant in the SCALE x SCALE cell of each LR pixel.
    """
    centres = np.s_[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    low = minimum_filter(there.astype(np.uint8), _REDUCTION, mode="nearest")[centres]  # of each LR pixel
    low = minimum_filter(low, _ENLARGEMENT, mode="nearest")
    return low.repeat(SCALE, axis=0).repeat(SCALE, axis=1).astype(bool)


def is_measurable(valid: np.ndarray) -> bool:
    """Whether `untouched` left a square that is large enough for every metric."""
    cells = LEAST // SCALE
    low = valid[::SCALE, ::SCALE]
    if min(low.shape) < cells:
        return bool(valid.all())
    return bool(np.lib.stride_tricks.sliding_window_view(low, (cells, cells)).all((2, 3)).any())
