"""How sure a mean over images is, and whether two methods differ on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

LEVEL = 0.95
RESAMPLES = 2000
SEED = 0
_CHUNK = 1 << 22  # drawn indices at once: bounds the memory


@dataclass(frozen=True)
class PairedTest:
    """Two methods on the same images.

    Attributes:
        images: How many.
        difference: Mean of second - first.
        low: Lower end of the difference's 95 % bootstrap interval; None for a single image.
        high: Upper end.
        p_value: Two-sided Wilcoxon signed-rank test of "neither is larger"; 1 where all values are equal.
        larger: On how many images the second is larger.
        smaller: On how many it is smaller.
    """

    images: int
    difference: float
    low: float | None
    high: float | None
    p_value: float
    larger: int
    smaller: int


def bootstrap_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron, Annals of Statistics 7(1), 1979).

    Args:
        values: One number for each image; at least 2, finite.
        level: Share of resamples whose mean lies inside.
        resamples: How many sets of images are drawn with replacement.
        seed: The same seed and values give the same interval.

    Returns:
        (low, high).

    Raises:
        ValueError: Fewer than 2 values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError(f"a bootstrap interval needs at least 2 finite values, found {array!r}")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(_CHUNK // len(array), 1)
    for start in range(0, resamples, rows):
        drawn = rng.integers(len(array), size=(min(rows, resamples - start), len(array)))
        means[start : start + len(drawn)] = array[drawn].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Compare two methods by their values on the same images, in the same order.

    The interval says how large the difference of the means is, the test whether it can be chance (Wilcoxon, Biometrics
    Bulletin 1(6), 1945; images without a difference are left out of it).

    Raises:
        ValueError: Not two equally long sequences of finite numbers, or no images.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.shape != b.shape or a.ndim != 1 or not len(a) or not np.isfinite([a, b]).all():
        raise ValueError(f"a paired test needs finite values of the same images, found {a.shape} and {b.shape}")
    differences = b - a
    low, high = bootstrap_interval(differences) if len(a) > 1 else (None, None)
    p_value = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    larger, smaller = int((differences > 0).sum()), int((differences < 0).sum())
    return PairedTest(len(a), float(differences.mean()), low, high, p_value, larger, smaller)
