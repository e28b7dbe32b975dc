"""Shares of improvement, omission and hallucination against opensr-test's formulas, pixel by pixel."""

import math

import numpy as np
import pytest
from PIL import Image
from skimage.exposure import match_histograms

from ttrd3.errors import DataError
from ttrd3.metrics import METRICS

KINDS = ("improvement", "omission", "hallucination")
PERFECT = {  # scores (0, 1, 1) through softmin of temperature 0.25
    "improvement": 1 / (1 + 2 * math.exp(-4)),
    "omission": math.exp(-4) / (1 + 2 * math.exp(-4)),
    "hallucination": math.exp(-4) / (1 + 2 * math.exp(-4)),
}


def shares(sr, hr, **options):
    return {kind: METRICS.build({"type": kind, **options}, "metrics")(sr, hr) for kind in KINDS}


def scene(size=(24, 28), seed=0):
    """Smooth ground with detail, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


def bilinear(lr, height, width, scale):
    """Half-pixel-centred bilinear enlargement, one pixel after the other."""
    out = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            v, u = ((place + 0.5) / scale - 0.5 for place in (y, x))
            v, u = min(max(v, 0), lr.shape[0] - 1), min(max(u, 0), lr.shape[1] - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, lr.shape[0] - 1), min(left + 1, lr.shape[1] - 1)
            a, b = v - top, u - left
            upper = (1 - b) * lr[top, left] + b * lr[top, right]
            out[y, x] = (1 - a) * upper + a * ((1 - b) * lr[bottom, left] + b * lr[bottom, right])
    return out


def plain(sr, hr, scale, border):
    height, width = hr.shape[:2]
    small = Image.fromarray(hr).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    inside = np.s_[border : height - border, border : width - border]
    lr = bilinear(np.asarray(small) / 255, height, width, scale)[inside]
    hr = hr[inside] / 255
    sr = match_histograms(sr[inside] / 255, hr, channel_axis=2)

    def distance(a, b):
        return sum(abs(p - q) / abs(p + q + 1e-8) for p, q in zip(a, b, strict=True)) / 3

    pixels = [
        (distance(lr[y, x], hr[y, x]), distance(sr[y, x], hr[y, x]), distance(sr[y, x], lr[y, x]))
        for y in range(hr.shape[0])
        for x in range(hr.shape[1])
    ]
    threshold = sorted(p[0] for p in pixels)[int(0.75 * len(pixels)) - 1]
    sums = dict.fromkeys(KINDS, 0.0)
    judged = [p for p in pixels if max(p) > threshold]
    for reference, error, change in judged:
        error, change = error / reference, change / reference
        h = error + change - 1
        scores = {
            "improvement": error + change * (1 - math.exp(-0.05 * h)),
            "omission": change + error * (1 - math.exp(-0.05 * h)),
            "hallucination": math.exp(-0.05 * error * change),
        }
        total = sum(math.exp(-score / 0.25) for score in scores.values())
        for kind, score in scores.items():
            sums[kind] += math.exp(-score / 0.25) / total
    return {kind: value / len(judged) for kind, value in sums.items()}


@pytest.mark.parametrize(("scale", "border"), [(4, 0), (2, 3)])
def test_equal_the_plain_formulas(scale, border):
    hr = scene()
    rng = np.random.default_rng(1)
    sr = np.clip(hr * 0.8 + 10 + rng.normal(0, 25, hr.shape), 0, 255).astype(np.uint8)
    expected = plain(sr, hr, scale, border)
    assert shares(sr, hr, scale=scale, border=border) == pytest.approx(expected, rel=1e-9)
    assert sum(expected.values()) == pytest.approx(1)


def test_extremes_have_closed_forms():
    hr = scene((64, 64))
    assert shares(hr, hr) == pytest.approx(PERFECT, rel=1e-12)
    noise = np.random.default_rng(2).integers(0, 256, hr.shape, dtype=np.uint8)
    found = shares(noise, hr)
    assert max(found, key=found.get) == "hallucination"
    small = Image.fromarray(hr).resize((16, 16), Image.Resampling.BICUBIC)
    found = shares(np.asarray(small.resize((64, 64), Image.Resampling.BILINEAR)), hr)
    assert max(found, key=found.get) == "omission"


def test_a_flat_scene_that_is_restored_exactly_is_perfect_and_invented_texture_is_not():
    flat = np.full((48, 48, 3), 90, np.uint8)
    assert shares(flat, flat) == pytest.approx(PERFECT, rel=1e-12)
    hr = flat.copy()
    hr[20:24, 20:24] = 110
    noisy = np.clip(hr + np.random.default_rng(0).normal(0, 20, hr.shape), 0, 255).astype(np.uint8)
    found = shares(noisy, hr)
    assert all(math.isfinite(value) for value in found.values())
    assert sum(found.values()) == pytest.approx(1)


def test_a_global_change_of_colour_is_not_counted():
    hr = scene((64, 64))
    darker = (hr.astype(np.float64) * 0.7 + 5).round().astype(np.uint8)
    assert shares(darker, hr)["improvement"] > 0.9


def test_small_images_are_refused_and_options_have_names():
    with pytest.raises(DataError, match="at least 40 x 40"):
        shares(scene((36, 64)), scene((36, 64)))
    built = METRICS.build({"type": "omission", "scale": 2, "border": 4}, "metrics")
    assert built.name == "omission_x2_border4"
    assert [METRICS[kind].higher_is_better for kind in KINDS] == [True, False, False]
    assert "opensr-test" in built.protocol()["after"]
