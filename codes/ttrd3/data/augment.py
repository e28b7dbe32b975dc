"""The eight flips and rotations by 90 degrees, and windows aligned to the LR grid."""

import numpy as np

from ttrd3.data.degrade import SCALE
from ttrd3.errors import DataError

Window = tuple[slice, slice]

_TRIES = 8  # windows that are drawn at most until one has data in half of its pixels


def draw_symmetry(rng: np.random.Generator, shape: tuple[int, ...]) -> int:
    """One of the eight symmetries, 0 to 7, that `apply_symmetry` knows.

    Images that are not square get one of the four that keep their shape, so that batches can be stacked.
    """
    symmetry = int(rng.integers(8))
    return symmetry if shape[0] == shape[1] else symmetry & ~1


def apply_symmetry(image: np.ndarray, symmetry: int) -> np.ndarray:
    """Rotate (H, W, 3) or (H, W) by 90 degrees x (symmetry mod 4), then mirror it left to right for 4 to 7."""
    turned = np.rot90(image, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def draw_window(rng: np.random.Generator, shape: tuple[int, ...], size: int | None) -> Window:
    """Rows and columns of a random size x size window of an HR image, aligned to the LR grid; all where size is None.

    Raises:
        DataError: The image is smaller than the window.
    """
    if size is None:
        return slice(0, shape[0]), slice(0, shape[1])
    if min(shape[:2]) < size:
        raise DataError(
            f"crop: {size} pixels asked for, but an image has {shape[1]} x {shape[0]}. Set crop to at most its size."
        )
    top, left = (SCALE * int(rng.integers((side - size) // SCALE + 1)) for side in shape[:2])
    return slice(top, top + size), slice(left, left + size)


def draw_valid_window(rng: np.random.Generator, valid: np.ndarray, size: int | None) -> Window:
    """`draw_window` of an image of which `valid`, bool (H, W), may be looked at: of up to 8 windows the first that is
    valid in half of its pixels, else the one with the most.

    Raises:
        DataError: The image is smaller than the window.
    """
    best, most = None, -1.0
    for _ in range(_TRIES):
        window = draw_window(rng, valid.shape, size)
        share = float(valid[window].mean())
        if share > most:
            best, most = window, share
        if share >= 0.5:
            break
    return best


def lr_window(window: Window) -> Window:
    """The window of the LR image that belongs to an HR window."""
    rows, columns = (slice(part.start // SCALE, part.stop // SCALE) for part in window)
    return rows, columns
