import numpy as np
import pytest
from builders import SAMPLE, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from ttrd3.data.degrade import SCALE, degrade, lr_from_hr, up_from_lr
from ttrd3.data.images import read_rgb
from ttrd3.errors import DataError


def bicubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def plain_rows(image: np.ndarray, size: int) -> np.ndarray:
    """Pillow's fixed-point bicubic along axis 0, written from its description: 22 bits, one rounding a pass."""
    scale = len(image) / size
    stretch = max(scale, 1.0)
    out = np.empty((size, *image.shape[1:]), np.uint8)
    for row in range(size):
        centre = (row + 0.5) * scale
        first = max(int(centre - 2 * stretch + 0.5), 0)
        last = min(int(centre + 2 * stretch + 0.5), len(image))
        weights = np.array([bicubic((k - centre + 0.5) / stretch) for k in range(first, last)])
        fixed = weights / weights.sum() * 2**22
        fixed = np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int64)
        total = np.tensordot(fixed, image[first:last].astype(np.int64), axes=1) + 2**21
        out[row] = np.clip(total >> 22, 0, 255)
    return out


def plain_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    columns_first = plain_rows(image.swapaxes(0, 1), width).swapaxes(0, 1)
    return plain_rows(columns_first, height)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_equals_a_plain_fixed_point_bicubic_to_the_last_bit(rows, columns, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (rows * SCALE, columns * SCALE, 3), dtype=np.uint8)
    lr = lr_from_hr(noise)
    np.testing.assert_array_equal(lr, plain_resize(noise, rows, columns))
    np.testing.assert_array_equal(up_from_lr(lr), plain_resize(lr, rows * SCALE, columns * SCALE))
    np.testing.assert_array_equal(degrade(noise), up_from_lr(lr))


def test_the_embedded_sample_has_exactly_this_lr():
    tiles = sorted((SAMPLE / "neon").glob("*/hr/*/*.png"))
    assert len(tiles) == 20
    for path in tiles:
        lr = read_rgb(path.parents[2] / "lr" / path.parent.name / path.name)
        np.testing.assert_array_equal(lr, lr_from_hr(read_rgb(path)))


def test_a_constant_stays_constant():
    for value in (0, 1, 127, 255):
        image = np.full((16, 8, 3), value, np.uint8)
        np.testing.assert_array_equal(degrade(image), image)


@pytest.mark.parametrize("shape", [(30, 32), (32, 30), (0, 4)])
def test_sizes_that_do_not_divide_are_refused(shape):
    with pytest.raises(DataError, match=f"{shape[1]} x {shape[0]} pixels"):
        lr_from_hr(picture(0)[:1, :1].repeat(max(shape[0], 1), 0)[: shape[0]].repeat(shape[1], 1))
