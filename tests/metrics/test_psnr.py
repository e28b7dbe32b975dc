import math

import numpy as np
import pytest

from ttrd3.errors import ConfigError, DataError
from ttrd3.metrics import METRICS


def pair(shape=(12, 10, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 256, shape, dtype=np.uint8)


def psnr(**options):
    return METRICS.build({"type": "psnr", **options}, "metrics")


def by_hand(sr, hr):
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(sr.ravel(), hr.ravel(), strict=True)]
    return 10 * math.log10(255**2 / (sum(squares) / len(squares)))


def luma_by_hand(image):
    r, g, b = image.astype(np.float64).transpose(2, 0, 1)
    return 16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256


def test_equals_the_formula_on_random_images():
    sr, hr = pair()
    assert psnr()(sr, hr) == pytest.approx(by_hand(sr, hr), rel=1e-12)


@pytest.mark.parametrize("offset", [1, 16, 255])
def test_a_constant_error_has_a_closed_form(offset):
    hr = np.zeros((8, 8, 3), np.uint8)
    assert psnr()(hr + np.uint8(offset), hr) == pytest.approx(20 * math.log10(255 / offset), abs=1e-12)


def test_dark_minus_bright_does_not_wrap_around():
    dark, bright = np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 250, np.uint8)
    assert psnr()(dark, bright) == psnr()(bright, dark) == pytest.approx(20 * math.log10(255 / 240))


def test_border_is_cut_from_all_four_sides():
    sr, hr = pair()
    assert psnr(border=3)(sr, hr) == pytest.approx(by_hand(sr[3:-3, 3:-3], hr[3:-3, 3:-3]), rel=1e-12)


def test_luma_is_that_of_bt601():
    sr, hr = pair()
    assert psnr(channels="y")(sr, hr) == pytest.approx(by_hand(luma_by_hand(sr), luma_by_hand(hr)), rel=1e-12)
    white, black = np.full((4, 4, 3), 255, np.uint8), np.zeros((4, 4, 3), np.uint8)
    # Studio swing: white is 235 and black 16, up to the rounding of the published coefficients.
    assert psnr(channels="y")(white, black) == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)


def test_identical_and_nearly_identical_images_are_capped_at_80_db():
    hr = np.zeros((256, 256, 3), np.uint8)
    nearly = hr.copy()
    nearly[0, 0, 0] = 1  # 101 dB
    assert psnr()(hr, hr) == psnr()(nearly, hr) == 80
    assert psnr().protocol()["cap_db"] == 80


def test_variants_have_names_and_protocols_of_their_own():
    assert (psnr().name, psnr(channels="y").name) == ("psnr", "psnr_y")
    assert psnr().protocol() == {"channels": "RGB", "border": 0, "data_range": 255, "cap_db": 80}
    assert psnr(channels="y", border=4).protocol() == {
        "channels": "BT.601 luma",
        "border": 4,
        "data_range": 255,
        "cap_db": 80,
    }


@pytest.mark.parametrize("name", ["psnr", "ssim", "consistency"])
@pytest.mark.parametrize(
    ("sr", "message"),
    [
        (np.zeros((64, 60, 3), np.uint8), r"SR is 60 x 64, HR is 64 x 64 \(width x height\)"),
        (np.zeros((64, 64, 3), np.float32), r"SR image .* found float32 of shape \(64, 64, 3\), expected uint8"),
        (np.zeros((64, 64), np.uint8), r"SR image .* found uint8 of shape \(64, 64\), expected uint8 \(H, W, 3\)"),
        (np.zeros((64, 64, 4), np.uint8), r"SR image .* shape \(64, 64, 4\)"),
        (np.zeros((64, 64, 3), np.uint16), r"SR image .* uint16"),
    ],
)
def test_what_is_not_a_pair_of_8_bit_rgb_images_is_refused(name, sr, message):
    with pytest.raises(DataError, match=message):
        METRICS.build({"type": name}, "metrics")(sr, np.zeros((64, 64, 3), np.uint8))


def test_a_border_that_leaves_nothing_is_refused():
    hr = np.zeros((8, 20, 3), np.uint8)
    with pytest.raises(DataError, match=r"20 x 8 is too small to measure: at least 9 x 9 pixels .* border of 4"):
        psnr(border=4)(hr, hr)


@pytest.mark.parametrize("options", [{"border": -1}, {"border": 1.5}, {"channels": "Y"}, {"crop": 4}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        psnr(**options)
