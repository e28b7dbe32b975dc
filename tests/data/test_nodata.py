import numpy as np
import pytest
from builders import picture

from ttrd3.data.degrade import degrade, lr_from_hr
from ttrd3.data.nodata import LEAST, filled, is_measurable, untouched


def holes(seed, side=128):
    there = np.ones((side, side), bool)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        y, x = rng.integers(0, side, 2)
        there[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = False
    return there


@pytest.mark.parametrize("seed", range(8))
def test_no_valid_pixel_depends_on_the_filling(seed):
    """HR, LR and the enlarged LR of two images that differ only where there is no data."""
    there = holes(seed)
    one = filled(picture(seed, 128, 128), there)
    other = one.copy()
    other[~there] = 255 - other[~there]
    valid = untouched(there)
    np.testing.assert_array_equal(one[valid], other[valid])
    np.testing.assert_array_equal(degrade(one)[valid], degrade(other)[valid])
    small = valid[::4, ::4]
    np.testing.assert_array_equal(lr_from_hr(one)[small], lr_from_hr(other)[small])
    assert 0.3 < valid.mean() < there.mean()


def test_the_mask_grows_no_further_than_the_filter_reaches():
    there = np.ones((128, 128), bool)
    there[64, 64] = False
    rows = np.flatnonzero(~untouched(there).all(1))
    assert (rows[0], rows[-1]) == (
        48,
        79,
    )  # LR rows 14 to 17 are made of row 64, and enlarging looks at 2 more each side
    everything = np.ones((16, 16), bool)
    assert untouched(everything).all()


def test_filled_with_the_nearest_pixel():
    image = picture(0, 8, 8)
    there = np.ones((8, 8), bool)
    there[:, :3] = False
    found = filled(image, there)
    np.testing.assert_array_equal(found[:, 3:], image[:, 3:])
    for column in range(3):
        np.testing.assert_array_equal(found[:, column], image[:, 3])


def test_measurable_means_one_whole_square():
    valid = np.zeros((64, 64), bool)
    valid[8 : 8 + LEAST, 4 : 4 + LEAST] = True
    assert is_measurable(valid)
    valid[8:12, 4:8] = False
    assert not is_measurable(valid)
    assert not is_measurable(np.zeros((16, 16), bool))
    assert is_measurable(np.ones((16, 16), bool))
