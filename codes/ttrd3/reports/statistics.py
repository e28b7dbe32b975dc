"""Uncertainty of a mean over images, and whether two methods differ on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
LEVEL = 0.95
_SEED = 20_250_413  # any fixed number: the same values always give the same interval


@dataclass(frozen=True)
class PairedTest:
    """What a paired test found.

    Attributes:
        difference: Mean of a - b.
        low: Lower end of the 95% interval of that mean.
        high: Upper end.
        p: Two-sided chance of so large a mean difference if the signs of the differences were random.
    """

    difference: float
    low: float
    high: float
    p: float


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean of `values`, with a fixed seed."""
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(_SEED)
    # One draw at a time, so that memory does not grow with the number of images times draws.
    means = [array[rng.integers(array.size, size=array.size)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_test(a: Sequence[float], b: Sequence[float]) -> PairedTest:
    """Test a against b, two values for each image: bootstrap interval of the difference and a sign-flip permutation p.

    Raises:
        ValueError: Not one value of each for every image.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"found {first.shape} and {second.shape} values, expected one of each for every image")
    differences = first - second
    observed = abs(differences.sum())
    rng = np.random.default_rng(_SEED)
    sums = (np.abs(rng.choice((-1.0, 1.0), differences.size) @ differences) for _ in range(DRAWS))
    tolerance = (
        1e-12 * np.abs(differences).sum()
    )  # a permutation that is the data itself must count in spite of rounding
    at_least = sum(total >= observed - tolerance for total in sums)
    low, high = bootstrap_interval(differences)
    return PairedTest(float(differences.mean()), low, high, (int(at_least) + 1) / (DRAWS + 1))
