import numpy as np
import pytest

from ttrd3.errors import DataError
from ttrd3.metrics import METRICS

K1, K2 = 0.01 * 255, 0.03 * 255


def ssim(**options):
    return METRICS.build({"type": "ssim", **options}, "metrics")


def pair(shape=(14, 15, 3), seed=0):
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, shape, dtype=np.uint8)
    return np.clip(hr + rng.normal(0, 30, shape), 0, 255).astype(np.uint8), hr


def gaussian_window():
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line)
    return window / window.sum()


def plain(sr, hr, window, unbiased):
    """Wang et al. 2004, window by window over every place where it fits, one channel at a time."""
    size = len(window)
    correction = size**2 / (size**2 - 1) if unbiased else 1
    values = []
    for channel in range(sr.shape[2]):
        for y in range(sr.shape[0] - size + 1):
            for x in range(sr.shape[1] - size + 1):
                a = sr[y : y + size, x : x + size, channel].astype(np.float64)
                b = hr[y : y + size, x : x + size, channel].astype(np.float64)
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a = correction * (window * (a - mean_a) ** 2).sum()
                var_b = correction * (window * (b - mean_b) ** 2).sum()
                cov = correction * (window * (a - mean_a) * (b - mean_b)).sum()
                likeness = (2 * mean_a * mean_b + K1**2) * (2 * cov + K2**2)
                values.append(likeness / ((mean_a**2 + mean_b**2 + K1**2) * (var_a + var_b + K2**2)))
    return np.mean(values)


def test_uniform_window_equals_the_plain_formula():
    sr, hr = pair()
    assert ssim()(sr, hr) == pytest.approx(plain(sr, hr, np.full((7, 7), 1 / 49), unbiased=True), rel=1e-10)


def test_gaussian_window_equals_the_plain_formula():
    sr, hr = pair()
    value = ssim(window="gaussian11")(sr, hr)
    assert value == pytest.approx(plain(sr, hr, gaussian_window(), unbiased=False), rel=1e-10)


def test_luma_and_border_equal_the_plain_formula():
    sr, hr = pair((16, 17, 3))
    weights = np.array([65.738, 129.057, 25.064]) / 256
    a, b = ((image @ weights + 16)[2:-2, 2:-2, None] for image in (sr, hr))
    value = ssim(channels="y", border=2)(sr, hr)
    assert value == pytest.approx(plain(a, b, np.full((7, 7), 1 / 49), unbiased=True), rel=1e-10)


def test_constant_images_have_a_closed_form():
    a, b = np.full((9, 9, 3), 100, np.uint8), np.full((9, 9, 3), 120, np.uint8)
    expected = (2 * 100 * 120 + K1**2) / (100**2 + 120**2 + K1**2)
    assert ssim()(a, b) == pytest.approx(expected, rel=1e-12)


def test_identical_images_have_ssim_one_and_a_negative_a_low_one():
    _, hr = pair()
    assert ssim()(hr, hr) == pytest.approx(1, abs=1e-12)
    assert ssim()(255 - hr, hr) < 0


@pytest.mark.parametrize(("window", "side"), [("uniform7", 7), ("gaussian11", 11)])
def test_images_smaller_than_the_window_are_refused(window, side):
    fits, small = np.zeros((side, side, 3), np.uint8), np.zeros((side - 1, 64, 3), np.uint8)
    assert ssim(window=window)(fits, fits) == 1
    with pytest.raises(DataError, match=f"at least {side} x {side} pixels"):
        ssim(window=window)(small, small)


def test_variants_have_names_and_protocols_of_their_own():
    names = [ssim(channels=c, window=w).name for c in ("rgb", "y") for w in ("uniform7", "gaussian11")]
    assert names == ["ssim", "ssim_gauss", "ssim_y", "ssim_y_gauss"]
    assert ssim().protocol() == {"channels": "RGB", "border": 0, "window": "7x7 uniform", "data_range": 255}
    assert ssim(window="gaussian11", border=4).protocol()["window"] == "11x11 Gaussian (sigma 1.5)"
