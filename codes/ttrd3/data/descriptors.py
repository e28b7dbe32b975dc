"""What a tile looks like in a few hundred numbers, so that similar tiles can be found: small distance, similar tile.

A descriptor is computed from the *enlarged LR* of a tile, never from its HR: that is all that is known of an image
that is to be restored, and a library tile must be described as if it were one.
"""

import functools
from typing import Protocol

import numpy as np

from ttrd3.data.degrade import SCALE

# Bins of brightness, red - green, and yellow - blue; land is nearly grey, so the last two span a part of their range.
_COLOUR_BINS = (8, 6, 6)
_COLOUR_LOW = (0, -40, -60)
_COLOUR_HIGH = (256, 40, 60)
_DIRECTIONS = 12  # of gradients, over half a turn
_MAGNITUDES = 12  # of gradients, a bin for every factor of 2 ** (2 / 3)
_SCALES = 2  # sizes at which gradients are looked at: LR pixels and twice that
_RINGS = 8  # of spatial frequency
_WEDGES = 6  # of directions in a ring
_LOWEST, _HIGHEST = 1.5 / 64, 0.5  # cycles per LR pixel: what a tile of 256 x 256 has, but for the mean
_FLOOR = 0.1  # energy in grey levels squared below which a spectrum is noise of rounding
# Chosen on UC Merced 00-63 by same-class hits (figures/retrieval.md) so that colour, gradients and spectrum spread
# about alike; gradient directions weigh half, so that of two alike tiles the one turned alike is nearer.
_WEIGHT_GRADIENTS, _WEIGHT_DIRECTIONS, _WEIGHT_SPECTRUM = 1.2, 0.6, 0.17


class Descriptor(Protocol):
    """Describes enlarged LR images.

    Attributes:
        kind: What it is, with a hash of its weights where it has such: descriptors of one kind can be compared.
        standardized: Whether its numbers are to be divided by their spread in the library before they are compared.
        in_workers: Whether it may be sent to other processes.
    """

    kind: str
    standardized: bool
    in_workers: bool

    def __call__(self, up: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3), enlarged LR -> float32 (N, D)."""
        ...


class StatisticsDescriptor:
    """Statistics of colour, gradient orientation and spectrum; needs no weights, about 1 ms a tile of 256 x 256."""

    kind = "statistics-1"
    standardized = False
    in_workers = True

    def __call__(self, up: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3) -> float32 (N, 374); each image on its own, so a batch changes nothing."""
        return np.stack([describe(image) for image in up])


def describe(up: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), enlarged LR with H and W multiples of 4 -> float32 (374,).

    All of it is computed at LR's size, which holds all that the enlarged image does.
    """
    height, width = up.shape[0] // SCALE, up.shape[1] // SCALE
    small = up.reshape(height, SCALE, width, SCALE, 3).mean((1, 3), dtype=np.float32)  # (H/4, W/4, 3)
    grey = small.mean(2)
    parts = [_colours(small), _WEIGHT_SPECTRUM * _spectrum(grey)]
    for _ in range(_SCALES):
        magnitudes, directions = _gradients(grey)
        # How strongly the directions gather, at which angles apart, whatever the turn of the whole tile.
        turned = np.abs(np.fft.rfft(directions))
        parts += [
            _WEIGHT_GRADIENTS * np.sqrt(magnitudes),
            _WEIGHT_GRADIENTS * turned / max(turned[0], 1e-6),
            _WEIGHT_DIRECTIONS * np.sqrt(directions / max(directions.sum(), 1e-6)),
        ]
        grey = _halved(grey)
    return np.concatenate(parts).astype(np.float32)


def _colours(small: np.ndarray) -> np.ndarray:
    """Square roots of a joint histogram: their Euclidean distance is Hellinger's."""
    red, green, blue = np.moveaxis(small, 2, 0)
    place = np.zeros(red.size, dtype=np.int64)
    axes = ((red + green + blue) / 3, red - green, (red + green) / 2 - blue)
    for values, bins, low, high in zip(axes, _COLOUR_BINS, _COLOUR_LOW, _COLOUR_HIGH, strict=True):
        step = np.floor((values.ravel() - low) * (bins / (high - low))).astype(np.int64)
        place = place * bins + step.clip(0, bins - 1)
    return np.sqrt(np.bincount(place, minlength=int(np.prod(_COLOUR_BINS))) / place.size)


def _gradients(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shares of magnitudes (12,), magnitude by direction (12,)), a direction shared out among the nearest two bins."""
    vertical, horizontal = grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]
    magnitude = np.hypot(vertical, horizontal).ravel()
    if not magnitude.size:  # tiles of a few pixels
        return np.zeros(_MAGNITUDES), np.zeros(_DIRECTIONS)
    step = np.minimum(np.log2(1 + magnitude) * 1.5, _MAGNITUDES - 1).astype(np.int64)
    angle = (np.arctan2(vertical, horizontal).ravel() % np.pi) / np.pi * _DIRECTIONS
    first = np.floor(angle).astype(np.int64)
    rest = angle - first
    directions = np.bincount(first % _DIRECTIONS, magnitude * (1 - rest), _DIRECTIONS)
    directions += np.bincount((first + 1) % _DIRECTIONS, magnitude * rest, _DIRECTIONS)
    return np.bincount(step, minlength=_MAGNITUDES) / step.size, directions


def _spectrum(grey: np.ndarray) -> np.ndarray:
    """Log energy of each ring of frequencies: mean, spread and peak over its wedges, (24,)."""
    height, width = grey.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    energy = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / grey.size
    sector = _sectors(height, width)
    count = np.bincount(sector, minlength=_RINGS * _WEDGES + 1)[:-1]
    total = np.bincount(sector, energy.ravel(), _RINGS * _WEDGES + 1)[:-1]
    wedges = np.log(total / np.maximum(count, 1) + _FLOOR).reshape(_RINGS, _WEDGES)
    mean = wedges.mean(1)
    return np.stack([mean, wedges.std(1), wedges.max(1) - mean], axis=1).ravel()


@functools.lru_cache(maxsize=8)
def _sectors(height: int, width: int) -> np.ndarray:
    """Ring and wedge of each frequency of an image, flat; one number more for those outside all rings."""
    vertical, horizontal = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    edges = np.geomspace(_LOWEST, _HIGHEST, _RINGS + 1)
    radius = np.hypot(vertical, horizontal).ravel()
    ring = np.digitize(radius, edges) - 1
    wedge = np.floor(np.arctan2(vertical, horizontal).ravel() % np.pi / np.pi * _WEDGES + 0.5).astype(np.int64)
    inside = (ring >= 0) & (ring < _RINGS)
    return np.where(inside, ring * _WEDGES + wedge % _WEDGES, _RINGS * _WEDGES)


def _halved(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
    return grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
