"""Brings a reference of another date or sensor to the colours of the image that it is to help."""

import numpy as np

from ttrd3.data.degrade import degrade

# Contrast is changed by at most this factor: a lake or a cloud says nothing about the contrast of the other date.
MAX_GAIN = 4.0


def match_moments(reference: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The reference with mean and standard deviation of `up` in each channel, as far as 8 bits allow.

    The map a x + b of a channel is found between the *degraded* reference and `up`, which are equally blurred (the
    sharp reference has more contrast only because it is sharp), and applied to the sharp reference, which is then
    rounded and clipped to 8 bits once. Degrade the result, not the former degraded reference, so that both belong
    together.

    Args:
        reference: uint8 (H, W, 3), sharp; H and W multiples of 4.
        up: uint8 (H', W', 3), the enlarged LR.

    Returns:
        uint8 (H, W, 3).
    """
    (mean, spread), (wanted_mean, wanted_spread) = (_moments(image) for image in (degrade(reference), up))
    gain = (wanted_spread / np.maximum(spread, 1e-12)).clip(1 / MAX_GAIN, MAX_GAIN)
    return np.rint((reference - mean) * gain + wanted_mean).clip(0, 255).astype(np.uint8)


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel."""
    return image.mean((0, 1), dtype=np.float64), image.std((0, 1), dtype=np.float64)
