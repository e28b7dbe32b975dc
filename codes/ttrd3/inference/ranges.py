"""Which values of an image are black and white for the model: 0..255 for 8 bits, else declared or found."""

import numpy as np

from ttrd3.errors import DataError

Range = tuple[float, float]

BYTE: Range = (0.0, 255.0)
_CLIPPED = 0.1  # percent of the values at either end that lie outside a range that is found
_MOST_OUTSIDE = 20.0  # percent of the values that may lie outside a declared range
_LEAST_SPREAD = 0.01  # of a declared range that the values must fill


def find_range(values: np.ndarray, dtype: np.dtype, name: str) -> Range:
    """(low, high): 0..255 for uint8, else the 0.1 and 99.9 percentiles of the values, of all bands together.

    Args:
        values: A sample of the valid values.
        dtype: Of the file.
        name: Of the file, for the message.

    Raises:
        DataError: There is no valid value.
    """
    if values.size == 0:
        raise DataError(f"{name}: holds no valid pixel (all are nodata, masked or not finite). Leave it out.")
    if dtype == np.uint8:
        return BYTE
    low, high = (float(v) for v in np.percentile(values.astype(np.float64), [_CLIPPED, 100 - _CLIPPED]))
    return (low, high) if high > low else (low, low + 1)


def require_plausible(declared: Range, values: np.ndarray, name: str) -> None:
    """Refuse a declared range that does not suit the values: most would be cut off, or all look the same.

    Raises:
        DataError: Says what the values are.
    """
    low, high = declared
    first, last = np.percentile(values.astype(np.float64), [_CLIPPED, 100 - _CLIPPED])
    outside = 100 * float(np.mean((values < low) | (values > high)))
    # With "=", because a negative value would be taken for an option.
    suggestion = f"Declare --range={first:g},{last:g}, or leave it out to have it found"
    if outside > _MOST_OUTSIDE:
        raise DataError(
            f"{name}: --range {low:g},{high:g} is implausible: {outside:.0f} % of the values lie outside; "
            f"99.8 % of them are {first:g} to {last:g}. {suggestion}."
        )
    if last - first < _LEAST_SPREAD * (high - low):
        raise DataError(
            f"{name}: --range {low:g},{high:g} is implausible: 99.8 % of the values are {first:g} to {last:g}, less "
            f"than 1 % of it, so that the model would see next to nothing. {suggestion}."
        )


def normalised(values: np.ndarray, value_range: Range) -> np.ndarray:
    """Values -> float32 where low is 0 and high is 1."""
    low, high = value_range
    return ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)


def restored(image: np.ndarray, value_range: Range, dtype: np.dtype) -> np.ndarray:
    """The reverse of `normalised`; integers are rounded and kept in their type's range."""
    low, high = value_range
    values = image.astype(np.float64) * (high - low) + low
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def as_bytes(window: np.ndarray) -> np.ndarray:
    """uint8 as it is; float32 where 0..1 is black to white -> uint8."""
    return window if window.dtype == np.uint8 else np.rint(np.clip(window, 0, 1) * 255).astype(np.uint8)
