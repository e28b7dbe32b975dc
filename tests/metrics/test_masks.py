"""Metrics of images with pixels that do not count: what they must ignore, and what they must come to."""

import numpy as np
import pytest
from metrics.weights import save_features, save_inception
from PIL import Image
from skimage.metrics import structural_similarity
from torchvision import models

from ttrd3.errors import DataError
from ttrd3.metrics import METRICS, Measuring

PLAIN = [
    {"type": "psnr"},
    {"type": "psnr", "channels": "y", "border": 5},
    {"type": "ssim"},
    {"type": "ssim", "window": "gaussian11", "channels": "y", "border": 3},
    {"type": "consistency"},
    {"type": "consistency", "scale": 3},
    {"type": "improvement"},
    {"type": "hallucination", "border": 0},
]


def build(options):
    return METRICS.build(options, "metrics")


def images(seed=0, side=80):
    """Smooth SR and HR with texture, and a mask with a large and a small hole."""
    rng = np.random.default_rng(seed)
    hr = np.asarray(Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize((side, side)))
    sr = (hr.astype(int) + rng.integers(-9, 10, hr.shape)).clip(0, 255).astype(np.uint8)
    valid = np.ones((side, side), bool)
    valid[:30, 40:] = valid[60:62, 9:13] = False
    return sr, hr, valid


def spoiled(image, valid, seed=1):
    noise = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    return np.where(valid[..., None], image, noise)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    squeeze = save_features(folder / "squeeze.pth", models.squeezenet1_1)
    inception = save_inception(folder / "inception.pth")
    return [
        build({"type": "lpips", "net": "squeeze", "file": str(squeeze)}),
        build({"type": "fid", "features": 64, "file": str(inception)}),
    ]


@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_sr_that_does_not_count_changes_nothing(options):
    sr, hr, valid = images()
    metric = build(options)
    found = metric(sr, hr, valid)
    assert metric(spoiled(sr, valid), hr, valid) == found
    assert metric(spoiled(sr, valid), hr) != found
    assert metric(sr, hr) != found


@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_a_mask_of_everything_is_no_mask(options):
    sr, hr, valid = images()
    assert build(options)(sr, hr, np.ones_like(valid)) == pytest.approx(build(options)(sr, hr), rel=1e-12)


def test_psnr_is_that_of_the_valid_pixels():
    sr, hr, valid = images()
    squares = (sr.astype(float) - hr)[valid] ** 2
    assert build({"type": "psnr"})(sr, hr, valid) == pytest.approx(10 * np.log10(255**2 / squares.mean()), rel=1e-12)


@pytest.mark.parametrize(("window", "half"), [("uniform7", 3), ("gaussian11", 5)])
def test_ssim_is_the_mean_over_whole_windows(window, half):
    """Each window by itself, as an image of its own."""
    sr, hr, valid = images(side=40)
    valid[:] = True
    valid[:18, 10:] = False
    settings = {"uniform7": {"win_size": 7}, "gaussian11": {"gaussian_weights": True, "use_sample_covariance": False}}
    found = []
    for y in range(half, 40 - half):
        for x in range(half, 40 - half):
            part = np.s_[y - half : y + half + 1, x - half : x + half + 1]
            if valid[part].all():
                found.append(structural_similarity(
                    hr[part], sr[part], channel_axis=2, data_range=255, **settings[window]
                ))  # fmt: skip
    assert 0 < len(found) < (40 - 2 * half) ** 2
    assert build({"type": "ssim", "window": window})(sr, hr, valid) == pytest.approx(np.mean(found), rel=1e-9)


def test_consistency_is_of_the_lr_pixels_that_are_made_of_valid_pixels():
    """A valid pixel that is wrong counts; the same error where it mixes with pixels that do not, does not."""
    _, hr, valid = images()
    metric = build({"type": "consistency"})
    near, far = hr.copy(), hr.copy()
    near[22:29, 60:70] ^= 64  # not valid
    far[44:52, 44:52] ^= 64
    assert metric(near, hr, valid) == 80 > metric(near, hr)
    small = [np.asarray(Image.fromarray(i).resize((20, 20), Image.Resampling.BICUBIC)).astype(float) for i in (far, hr)]
    counted = [
        (small[0] - small[1])[i, j]
        for i in range(20)
        for j in range(20)
        if valid[max(4 * i - 6, 0) : 4 * i + 11, max(4 * j - 6, 0) : 4 * j + 11].all()
    ]
    expected = 10 * np.log10(255**2 / np.square(counted).mean())
    assert metric(far, hr, valid) == pytest.approx(expected, rel=1e-9)


def test_shares_add_up_to_one():
    sr, hr, valid = images()
    found = [build({"type": kind})(sr, hr, valid) for kind in ("improvement", "omission", "hallucination")]
    assert sum(found) == pytest.approx(1)
    assert build({"type": "improvement", "border": 0})(spoiled(hr, valid), hr, valid) == pytest.approx(
        build({"type": "improvement", "border": 0})(hr, hr, valid)
    )


def test_learned_metrics_see_the_truth_there(learned):
    sr, hr, valid = images()
    measure = Measuring(learned)
    pasted = np.where(valid[..., None], sr, hr)
    found, expected = measure(spoiled(sr, valid), hr, valid), measure(pasted, hr)
    assert found.values == expected.values
    for key, features in expected.features.items():
        np.testing.assert_array_equal(found.features[key], features)
    assert measure(sr, hr, np.ones_like(valid)).values == measure(sr, hr).values
    assert measure.nodata == "lpips_squeeze, fid_64: SR taken from HR elsewhere"


@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_nothing_to_measure_is_told(options):
    sr, hr, valid = images()
    with pytest.raises(DataError, match=r"no .* of the image is free of pixels without data.*data.val.crop=null"):
        build(options)(sr, hr, np.zeros_like(valid))
