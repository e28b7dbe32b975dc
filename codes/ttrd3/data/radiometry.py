"""Values of any depth to 8 bits by a declared scaling, and what makes a declaration implausible."""

import math
import re
from dataclasses import dataclass

import numpy as np

from ttrd3.data.rasters import Bands
from ttrd3.errors import DataError, UserError

Ranges = tuple[tuple[float, float], ...]  # of each band: what becomes 0 and what becomes 255

# A wrong divisor is mostly wrong by a factor of 10 or more: 8-bit data called 16-bit, reflectance called counts.
_DARKEST, _BRIGHTEST = 0.02, 1.5  # where the 99th percentile of the data may lie, as a share of the divisor
_PERCENTILE = 99.0


@dataclass(frozen=True)
class Scaling:
    """A declared scaling.

    Attributes:
        kind: "none" (8-bit values stay), "divide" ([0, N] becomes [0, 255]) or "percentiles" (those of all data).
        values: N, or the lower and the upper percentile.
    """

    kind: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Radiometry:
    """How three bands of a TIFF become 8-bit RGB.

    Attributes:
        bands: Their numbers, counted from 1.
        dtype: Type of the stored values.
        ranges: What is mapped to [0, 255]; None leaves 8-bit values as they are.
    """

    bands: Bands
    dtype: str
    ranges: Ranges | None = None

    def to_8bit(self, values: np.ndarray) -> np.ndarray:
        """Values (H, W, 3) -> uint8 (H, W, 3): mapped linearly, rounded and clipped; NaN becomes 0."""
        if self.ranges is None:
            return values
        low, high = np.array(self.ranges).T
        scaled = (values.astype(np.float64) - low) / (high - low) * 255
        return np.rint(np.nan_to_num(scaled, nan=0.0)).clip(0, 255).astype(np.uint8)


def parse_scaling(text: str) -> Scaling:
    """`none`, `divide:N` or `percentiles:LOW,HIGH`.

    Raises:
        UserError: Anything else.
    """
    kind, _, rest = text.partition(":")
    try:
        values = tuple(float(word) for word in rest.split(",")) if rest else ()
    except ValueError:
        values = (math.nan,)
    fits = {
        "none": text == "none",
        "divide": len(values) == 1 and 0 < values[0] < math.inf,
        "percentiles": len(values) == 2 and 0 <= values[0] < values[-1] <= 100,
    }
    if not fits.get(kind, False):
        raise UserError(
            f"--scale: found {text!r}, expected none, divide:N with N above 0 (as divide:10000), or "
            "percentiles:LOW,HIGH between 0 and 100 (as percentiles:2,98)."
        )
    return Scaling(kind, values)


def parse_bands(text: str) -> list[int]:
    """Three band numbers, as `4,3,2`.

    Raises:
        UserError: Anything else.
    """
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*){2}", text):
        raise UserError(
            f"--bands: found {text!r}, expected the numbers of the red, green and blue band, counted from 1, as 4,3,2 "
            "(a single band as 1,1,1)."
        )
    return [int(word) for word in text.split(",")]


def ranges_for(scaling: Scaling, values: np.ndarray, bands: Bands, what: str) -> Ranges | None:
    """The ranges that a declared scaling means for a data set; refused where they are implausible.

    Args:
        scaling: What was declared.
        values: A sample (n, 3) of the pixels of the whole data set that hold data.
        bands: Where they come from, for messages.
        what: Which images they are, for messages.

    Raises:
        DataError: No data, a constant band, or data that lie far outside of the declared range.
    """
    if not len(values):
        raise DataError(f"{what}: found no pixel with data in any of the images. Check their nodata value and masks.")
    for band, column in zip(bands, values.T, strict=True):
        if column.min() == column.max():
            raise DataError(
                f"--bands: band {band} is {column[0]:g} all over {what} (in {len(column)} pixels looked at), expected "
                "an image. Choose another band."
            )
    if scaling.kind == "none":
        return None
    if scaling.kind == "divide":
        _require_plausible(scaling.values[0], values, bands, what)
        return ((0.0, scaling.values[0]),) * 3
    low, high = np.percentile(values.astype(np.float64), scaling.values, axis=0)
    for band, a, b in zip(bands, low, high, strict=True):
        if a >= b:
            raise DataError(
                f"--scale: of band {band} of {what} the percentiles {scaling.values[0]:g} and {scaling.values[1]:g} "
                f"are both {a:g}, expected a range. Take percentiles farther apart, or divide:N."
            )
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def clipped_shares(ranges: Ranges, values: np.ndarray) -> dict[str, float]:
    """Shares of the values (n, 3) that lie below and above the ranges."""
    low, high = np.array(ranges).T
    return {"below": float((values < low).mean()), "above": float((values > high).mean())}


def _require_plausible(divisor: float, values: np.ndarray, bands: Bands, what: str) -> None:
    """Refuse a divisor that would make the images nearly black or nearly white."""
    highs, medians = np.percentile(values.astype(np.float64), [_PERCENTILE, 50], axis=0)
    named = f"--scale: divide:{divisor:g} does not fit {what}"
    found = ", ".join(f"{high:g} in band {band}" for band, high in zip(bands, highs, strict=True))
    advice = "Declare the value that full brightness has, or take percentiles:2,98."
    if medians.min() < 0:
        raise DataError(
            f"{named}: more than half of band {bands[int(medians.argmin())]} is negative, expected values from 0 to "
            f"{divisor:g}. {advice}"
        )
    if highs.max() < _DARKEST * divisor:
        raise DataError(
            f"{named}: 99 % of the values lie below {found}, expected more than {_DARKEST:.0%} of {divisor:g}: the "
            f"images would be black. {advice}"
        )
    if highs.max() > _BRIGHTEST * divisor:
        raise DataError(
            f"{named}: the 99th percentile is {found}, expected at most {_BRIGHTEST:.0%} of {divisor:g}: the images "
            f"would be saturated. {advice}"
        )
