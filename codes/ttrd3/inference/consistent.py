"""The nearest image whose bicubic reduction is the LR image: x + D^T (D D^T)^-1 (lr - D x), D being the reduction.

D is separable, so D D^T is a Kronecker product of two small banded matrices whose inverses fall off within a few
pixels: a window with a halo gives the same as the whole image. Values that leave the range are cut off and the rest is
projected again, a few times (projections onto convex sets). Where the LR image is at an end of its range it says only
that the reduction lies there or beyond, as its own was cut off.
"""

import functools
import math

import numpy as np

from ttrd3.data.degrade import SCALE

HALO = 16  # LR pixels around a window, after which the inverse has fallen below 1e-5
ROUNDS = 24
_STEP = 1.6  # over-relaxation: half as many rounds where much is cut off
_ENOUGH = 1e-4  # of the range: a fortieth of an 8-bit level


def project(image: np.ndarray, lr: np.ndarray, low: float, high: float) -> np.ndarray:
    """The image near `image` whose reduction by Pillow's bicubic filter is `lr`, as far as the range allows.

    Args:
        image: float32 (4 h, 4 w, C).
        lr: float32 (h, w, C), on the same scale.
        low: Least value of the result.
        high: Largest value of the result.

    Returns:
        float32 (4 h, 4 w, C).
    """
    height, width = lr.shape[:2]
    down, across = reduction(height), reduction(width)
    back, back_across = pseudo_inverse(height), pseudo_inverse(width)
    bands = []
    for x, target in zip(np.moveaxis(image, 2, 0), np.moveaxis(lr, 2, 0), strict=True):
        for number in range(ROUNDS):
            difference = target - down @ x @ across.T  # (h, w)
            difference = np.where(target >= high, np.maximum(difference, 0), difference)
            difference = np.where(target <= low, np.minimum(difference, 0), difference)
            if np.abs(difference).max() < _ENOUGH:
                break
            step = _STEP if number else 1
            x = np.clip(x + step * (back @ difference @ back_across.T), low, high)
        bands.append(x)
    return np.stack(bands, axis=2).astype(np.float32)


@functools.cache
def reduction(length: int) -> np.ndarray:
    """D, float32 (length, 4 length): Pillow's antialiased bicubic filter (a = -0.5) along one axis."""
    matrix = np.zeros((length, SCALE * length))
    for i in range(length):
        centre, reach = (i + 0.5) * SCALE, 2 * SCALE
        begin, end = max(math.floor(centre - reach + 0.5), 0), min(math.floor(centre + reach + 0.5), SCALE * length)
        weights = _kernel((np.arange(begin, end) - centre + 0.5) / SCALE)
        matrix[i, begin:end] = weights / weights.sum()
    return matrix.astype(np.float32)


@functools.cache
def pseudo_inverse(length: int) -> np.ndarray:
    """D^T (D D^T)^-1, float32 (4 length, length)."""
    matrix = reduction(length).astype(np.float64)
    return np.linalg.solve(matrix @ matrix.T, matrix).T.astype(np.float32)


def _kernel(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -0.5."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))
