"""Warped references: each of their changes alone, and what they never are."""

import numpy as np
import pytest
from builders import picture

from ttrd3.data import warped as module
from ttrd3.data.warped import warped

CONSTANTS = ("TURN", "ZOOM", "NEAR", "FAR", "FAR_SHARE", "GAIN", "OFFSET", "GAMMA", "CHANGED", "GRAIN")
WINDOW = slice(32, 128), slice(36, 132)  # in the middle of 160 x 176
IMAGE, OTHER = picture(0, 160, 176), picture(1, 96, 96)


@pytest.fixture
def only(monkeypatch):
    """`only(NEAR=3.0)`: every change is off but what is named; without a value, as it is."""

    def leave(*kept, **values):
        for name in CONSTANTS:
            monkeypatch.setattr(module, name, values.get(name, getattr(module, name) if name in kept else 0.0))

    return leave


def made(seed, image=IMAGE, window=WINDOW, other=OTHER):
    return warped(image, window, other, np.random.default_rng(seed))


def shift_of(found, image, top, left, reach=8):
    """How far the part `found` of `image` lies from (top, left), by the highest correlation; and that correlation."""
    height, width = found.shape[:2]
    best = (-2.0, 0, 0)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            part = image[top + dy : top + dy + height, left + dx : left + dx + width]
            best = max(best, (np.corrcoef(found.ravel(), part.ravel())[0, 1], dy, dx))
    return best[1], best[2], best[0]


def test_without_any_change_it_is_the_image(only):
    only()
    np.testing.assert_array_equal(made(0), IMAGE[WINDOW])
    whole = slice(0, 160), slice(0, 176)
    np.testing.assert_array_equal(made(0, window=whole, other=IMAGE), IMAGE)


def test_the_generator_decides_everything():
    np.testing.assert_array_equal(made(3), made(3))
    assert made(3).dtype == np.uint8
    assert made(3).shape == (96, 96, 3)
    assert not np.array_equal(made(3), made(4))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_it_is_shifted_and_what_comes_in_from_outside_is_real(only, share):
    only("FAR", NEAR=4.0, FAR_SHARE=share)
    reach = 24 if share else 4  # a quarter of 96
    found = [shift_of(made(seed)[:64:2, :64:2], IMAGE[::2, ::2], 16, 18, reach=14 if share else 4) for seed in range(4)]
    assert all(correlation > 0.8 for *_, correlation in found)
    assert len({shift[:2] for shift in found}) > 2
    assert max(abs(2 * value) for shift in found for value in shift[:2]) <= reach + 1
    assert not share or max(abs(2 * value) for shift in found for value in shift[:2]) > 6


def test_it_is_turned_about_its_middle(only):
    only("TURN")
    turns = []
    for seed in range(4):
        image = made(seed)
        above, below, middle = (
            shift_of(image[top : top + 24, 36:60], IMAGE, 32 + top, 36 + 36, reach=5) for top in (0, 72, 36)
        )
        assert middle[:2] == (0, 0)
        assert abs(above[1] + below[1]) <= 1
        turns.append(above[1])
    assert max(map(abs, turns)) >= 2  # 36 pixels above the middle; 4 degrees are 2.5
    assert max(map(abs, turns)) <= 3


def test_it_is_zoomed_about_its_middle(only):
    only(ZOOM=0.1)
    zooms = []
    for seed in range(4):
        image = made(seed)
        left, right, middle = (
            shift_of(image[36:60, at : at + 24], IMAGE, 32 + 36, 36 + at, reach=5) for at in (0, 72, 36)
        )
        assert middle[:2] == (0, 0)
        assert abs(left[1] + right[1]) <= 1
        zooms.append(left[1])
    assert 2 <= max(map(abs, zooms)) <= 4


def test_one_rectangle_shows_the_other_image(only):
    only("CHANGED")
    image, sizes = IMAGE[WINDOW], []
    for seed in range(200):
        found = made(seed)
        changed = (found != image).any(2)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if len(rows):
            inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            np.testing.assert_array_equal(found[inside], OTHER[inside])
        sizes.append((len(rows), len(columns)))
    assert np.max(sizes) <= 0.6 * 96
    assert np.max(sizes, axis=0).min() > 0.5 * 96
    assert np.mean(sizes) == pytest.approx(0.3 * 96, rel=0.15)


def test_colours_change_by_a_curve_for_each_channel(only):
    only("GAIN", "OFFSET", "GAMMA")
    image, largest = IMAGE[WINDOW].astype(int), 0
    for seed in range(10):
        found = made(seed).astype(int)
        for channel in range(3):
            order = np.argsort(image[..., channel], axis=None)
            before, after = image[..., channel].ravel()[order], found[..., channel].ravel()[order]
            assert (np.diff(after) >= 0).all()  # one curve, rising
            assert (after[1:] == after[:-1])[before[1:] == before[:-1]].all()
        largest = max(largest, np.abs(found - image).mean())
    assert 10 < largest < 60


def test_grain_is_noise_of_no_more_than_its_bound(only):
    only("GRAIN")
    deviations = [(made(seed).astype(int) - IMAGE[WINDOW])[40:80, 40:80].std() for seed in range(10)]
    assert 0.5 < max(deviations) < 3.3
    assert min(deviations) < 1


@pytest.mark.parametrize("side", [8, 16, 32, 96])
def test_nothing_comes_from_outside_the_image(only, side):
    """Of an evenly grey image, whole or at its corner, every motion is as grey."""
    only("TURN", "ZOOM", "NEAR", "FAR", "FAR_SHARE")
    for size in (side, 2 * side):
        image = np.full((size, size, 3), 200, dtype=np.uint8)
        window = slice(size - side, size), slice(0, side)
        for seed in range(20):
            assert (made(seed, image, window, np.zeros((side, side, 3), np.uint8)) == 200).all()
