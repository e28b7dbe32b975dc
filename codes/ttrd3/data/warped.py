"""A reference that holds the answer: the image itself as another flight might have shown it. For training only.

References of the same class seldom hold what a crop lacks, and a decoder that never gains from textures learns to
ignore them. Here place, colours and part of the ground differ from the image, as they do between two dates, while the
rest of its detail is there to be found.
"""

import numpy as np
from PIL import Image

from ttrd3.data.augment import Window

TURN = 4.0  # degrees, at most
ZOOM = 0.05  # larger or smaller by this share, at most
NEAR, FAR = 6.0, 0.25  # shift in pixels, at most, in most cases; as a share of the side in the others
FAR_SHARE = 0.3
GAIN, OFFSET, GAMMA = 0.2, 20.0, 0.2  # of each colour, in 8-bit levels; exponent exp(-GAMMA) to exp(GAMMA)
CHANGED = 0.6  # longest side of the part that shows something else, as a share of the crop's
GRAIN = 3.0  # largest standard deviation of the noise, in 8-bit levels


def warped(image: np.ndarray, window: Window, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part `window` of an image turned, zoomed, shifted, recoloured, grained, and in one rectangle replaced.

    Args:
        image: uint8 (H, W, 3), whole, so that what the movement brings in from outside the window is real.
        window: Rows and columns.
        other: uint8 (h, w, 3), another image, of at least the window's size: what the rectangle shows.
        rng: Decides everything.

    Returns:
        uint8, as large as the window.
    """
    rows, columns = (range(*part.indices(side)) for part, side in zip(window, image.shape, strict=False))
    height, width = len(rows), len(columns)
    moved = _moved(image, rows[0], columns[0], height, width, rng)
    top, left, bottom, right = _rectangle(height, width, rng)
    moved[top:bottom, left:right] = other[top:bottom, left:right]
    return _recoloured(moved, rng)


def _moved(image: np.ndarray, top: int, left: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    zoom = np.exp(rng.uniform(-ZOOM, ZOOM))
    reach = FAR * min(height, width) if rng.random() < FAR_SHARE else NEAR
    shift_y, shift_x = rng.uniform(-reach, reach, size=2)
    far = max(NEAR, FAR * min(height, width))
    margin = int(np.ceil(0.15 * max(height, width) + far)) + 2  # what turns and shifts can reach
    margin = min(margin, min(image.shape[:2]) - 1)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    # Pillow asks where in `padded` each pixel (x, y) of the result lies: a x + b y + c, d x + e y + f.
    c = margin + left + middle_x + shift_x - cosine * middle_x + sine * middle_y
    f = margin + top + middle_y + shift_y - sine * middle_x - cosine * middle_y
    turned = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, (cosine, -sine, c, sine, cosine, f), Image.Resampling.BICUBIC
    )
    return np.array(turned)


def _rectangle(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of what has changed: up to CHANGED of each side, often little."""
    h, w = (int(CHANGED * rng.random() * side) for side in (height, width))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return top, left, top + h, left + w


def _recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strength = rng.random()  # from the same light to quite another
    gain = 1 + strength * rng.uniform(-GAIN, GAIN, size=3)
    offset = strength * rng.uniform(-OFFSET, OFFSET, size=3)
    gamma = np.exp(strength * rng.uniform(-GAMMA, GAMMA))
    levels = 255 * (image / 255) ** gamma * gain + offset
    levels += rng.uniform(0, GRAIN) * rng.standard_normal(image.shape, dtype=np.float32)
    return levels.clip(0, 255).round().astype(np.uint8)
