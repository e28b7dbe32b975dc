import math

import numpy as np
import pytest

from ttrd3.data.degrade import lr_from_hr
from ttrd3.errors import DataError
from ttrd3.metrics import METRICS
from ttrd3.metrics.consistency import reduced


def consistency(**options):
    return METRICS.build({"type": "consistency", **options}, "metrics")


def antialiased_bicubic(channel, scale):
    """(H, W) -> (H/scale, W/scale): Keys' kernel (a = -1/2) stretched by `scale`, cut at the borders, 8-bit passes."""

    def weights(out, size):
        centre = (out + 0.5) * scale
        at = np.abs((np.arange(size) + 0.5 - centre) / scale)
        near = 1.5 * at**3 - 2.5 * at**2 + 1
        far = -0.5 * (at**3 - 5 * at**2 + 8 * at - 4)
        kernel = np.where(at < 1, near, np.where(at < 2, far, 0))
        return kernel / kernel.sum()

    def rows(image):
        matrix = np.stack([weights(out, len(image)) for out in range(len(image) // scale)])
        return np.clip(np.floor(matrix @ image + 0.5), 0, 255)

    return rows(rows(channel.T.astype(np.float64)).T)  # Pillow reduces the width first


def test_equals_psnr_of_the_reduced_images_by_a_plain_bicubic():
    rng = np.random.default_rng(0)
    sr, hr = (rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(2))
    small = [np.stack([antialiased_bicubic(i[..., c], 4) for c in range(3)], 2) for i in (sr, hr)]
    expected = 10 * math.log10(255**2 / np.square(small[0] - small[1]).mean())
    # Pillow works in fixed point, so single values may round the other way.
    assert consistency()(sr, hr) == pytest.approx(expected, abs=0.02)


def test_images_of_any_shape_are_reduced_as_lr_images_are():
    for shape in ((64, 64, 3), (1024, 256, 3), (256, 1024, 3)):
        hr = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(reduced(hr, 4), lr_from_hr(hr))


def test_texture_that_the_reduction_removes_costs_nothing():
    hr = np.full((64, 64, 3), 128, np.uint8)
    checks = (np.indices((64, 64)).sum(0) % 2 * 40).astype(np.uint8)[..., None]
    assert METRICS.build({"type": "psnr"}, "m")(hr + checks - np.uint8(20), hr) < 25
    assert consistency()(hr + checks - np.uint8(20), hr) == 80
    assert consistency()(hr + np.uint8(10), hr) == pytest.approx(20 * math.log10(25.5), abs=1e-9)


def test_scale_is_used_and_stated():
    rng = np.random.default_rng(1)
    sr, hr = (rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2))
    assert consistency(scale=1)(sr, hr) == METRICS.build({"type": "psnr"}, "m")(sr, hr)
    assert consistency(scale=8)(sr, hr) > consistency(scale=2)(sr, hr)
    assert consistency(scale=2).protocol() == {"channels": "RGB", "reduction": "Pillow bicubic x1/2", "cap_db": 80}


def test_an_image_smaller_than_one_lr_pixel_is_refused():
    tiny = np.zeros((3, 9, 3), np.uint8)
    with pytest.raises(DataError, match="9 x 3 cannot be reduced to 1/4: at least 4 x 4"):
        consistency()(tiny, tiny)
