"""The parts of tiling: where tiles lie, what they weigh, the noise field, the projection."""

import itertools

import numpy as np
import pytest
from data.builders import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ttrd3.data.degrade import lr_from_hr, up_from_lr
from ttrd3.errors import DataError
from ttrd3.inference.consistent import HALO, project, pseudo_inverse, reduction
from ttrd3.inference.enlarge import bicubic, continued, enlarged
from ttrd3.inference.grid import Axis
from ttrd3.inference.noise import noise_field
from ttrd3.inference.pictures import ArrayScene
from ttrd3.inference.ranges import require_plausible


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_tiles_cover_an_axis_and_their_weights_add_up_to_one(data):
    multiple = data.draw(st.sampled_from([1, 2, 4]))
    tile = multiple * data.draw(st.integers(16 // multiple, 40))
    axis = Axis(data.draw(st.integers(1, 700)), tile, data.draw(st.integers(0, tile // 3)), multiple)
    total, count = np.zeros((2, 4 * max(axis.length, axis.size)))
    for number, start in enumerate(axis.starts):
        weights = axis.weights(number)
        place = slice(4 * start, 4 * (start + axis.size))
        total[place] += weights
        count[place] += weights > 0
    np.testing.assert_allclose(total[: 4 * axis.length], 1, atol=1e-6)
    assert count.max() <= 2
    assert axis.size % multiple == 0
    assert all(b - a <= axis.size - axis.overlap for a, b in itertools.pairwise(axis.starts))
    assert axis.starts[-1] + axis.size == axis.length or len(axis.starts) == 1
    begin = data.draw(st.integers(0, 4 * axis.length - 1))
    there = [i for i, start in enumerate(axis.starts) if 4 * start <= begin < 4 * (start + axis.size)]
    assert axis.covering(begin, begin + 1) == there


def test_a_hundred_thousand_pixels():
    axis = Axis(25_000, 64, 8, 2)
    assert len(axis.starts) == 447  # about 25000 / 56
    assert axis.starts[-1] == 25_000 - 64


def test_the_noise_field_does_not_know_of_tiles():
    whole = noise_field(7, 0, 0, 0, 150, 210)
    for top, left, height, width in ((0, 0, 64, 64), (37, 101, 80, 99), (149, 209, 1, 1), (63, 63, 2, 2)):
        window = noise_field(7, 0, top, left, height, width)
        np.testing.assert_array_equal(window, whole[:, top : top + height, left : left + width])
    far = noise_field(7, 0, 399_000, 399_000, 64, 64)
    assert abs(far.mean()) < 0.05
    assert abs(whole.mean()) < 0.02
    assert abs(whole.std() - 1) < 0.02
    for a, b in (
        (whole[0, :, 1:], whole[0, :, :-1]),
        (whole[0], whole[1]),
        (whole[:, :64, :64], whole[:, 64:128, :64]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05
    for other in (noise_field(8, 0, 0, 0, 150, 210), noise_field(7, 1, 0, 0, 150, 210)):
        assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_windows_are_enlarged_as_the_whole_is(kind):
    image = picture(0, 30, 40)
    pixels = image if kind == "uint8" else image.astype(np.float32) / 200 - 0.1  # beyond 0..1 on both sides
    scene = ArrayScene(pixels)
    expected = np.clip(bicubic(np.clip(pixels, 0, 1) if kind == "float" else pixels), 0, 1)
    for top, left, height, width in ((0, 0, 30, 40), (3, 5, 7, 11), (29, 0, 1, 40), (10, 39, 20, 1)):
        window = enlarged(scene, top, left, height, width)
        place = (slice(4 * top, 4 * (top + height)), slice(4 * left, 4 * (left + width)))
        np.testing.assert_array_equal(window, expected[place])
        excess = enlarged(scene, top, left, height, width, excess=True)
        if kind == "uint8":
            assert not excess.any()
        else:
            clipped = pixels - np.clip(pixels, 0, 1)
            np.testing.assert_array_equal(excess, bicubic(clipped)[place])
    if kind == "uint8":
        np.testing.assert_array_equal(np.rint(expected * 255), up_from_lr(image))  # the training's, to the bit


def test_a_pixel_is_continued_by_itself():
    assert (continued(np.full((1, 1, 3), 5.0), 16, 8) == 5).all()
    image = np.arange(6.0).reshape(2, 3, 1)
    np.testing.assert_array_equal(continued(image, 2, 5)[0, :, 0], [0, 1, 2, 2, 1])


def test_the_reduction_is_pillows():
    image = np.random.default_rng(0).random((64, 96)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize((24, 16), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(reduction(16) @ image @ reduction(24).T, expected, atol=1e-6)
    np.testing.assert_allclose(reduction(16) @ pseudo_inverse(16), np.eye(16), atol=1e-5)


def reduced(image: np.ndarray) -> np.ndarray:
    """Bicubic x1/4 in float, without Pillow's cut-off between its two 8-bit passes."""
    down, across = reduction(image.shape[0] // 4), reduction(image.shape[1] // 4)
    return np.einsum("ij,jkc,lk->ilc", down, image.astype(np.float64), across)


def test_the_projection_makes_the_reduction_the_lr_image_within_rounding():
    hr = picture(2, 128, 160)
    lr = lr_from_hr(hr)
    noisy = np.clip(up_from_lr(lr) / 255 + np.random.default_rng(0).normal(0, 0.05, hr.shape), 0, 1).astype(np.float32)
    found = project(noisy, lr.astype(np.float32) / 255, 0, 1)
    assert found.min() >= 0
    assert found.max() <= 1
    stored = np.rint(found * 255)
    inside = (lr > 0) & (lr < 255)  # the ends of the range only say "there or beyond"
    assert np.abs(reduced(np.rint(noisy * 255)) - lr)[inside].max() > 3
    assert np.abs(reduced(stored) - lr)[inside].max() < 1
    assert np.mean((found - hr / 255.0) ** 2) < np.mean((noisy - hr / 255.0) ** 2)


def test_the_projection_is_the_nearest_such_image():
    """Where nothing is cut off: the change is orthogonal to whatever the reduction does not see."""
    rng = np.random.default_rng(1)
    image, lr = rng.random((64, 64, 1)).astype(np.float32), rng.random((16, 16, 1)).astype(np.float32)
    change = project(image, lr, -10, 10) - image
    unseen = rng.random((64, 64, 1)) * 1.0
    unseen -= np.einsum("ij,jkc,lk->ilc", pseudo_inverse(16), reduced(unseen), pseudo_inverse(16))
    assert abs(float((change * unseen).sum())) < 1e-3 * np.linalg.norm(change) * np.linalg.norm(unseen)


def test_a_window_is_projected_as_the_whole_is():
    hr = picture(5, 320, 320)
    lr, image = lr_from_hr(hr).astype(np.float32) / 255, up_from_lr(lr_from_hr(hr)).astype(np.float32) / 255
    whole = project(image, lr, 0, 1)
    part = project(
        image[: 4 * (20 + HALO), 4 * (30 - HALO) : 4 * (60 + HALO)], lr[: 20 + HALO, 30 - HALO : 60 + HALO], 0, 1
    )
    np.testing.assert_allclose(part[:80, 4 * HALO : -4 * HALO], whole[:80, 120:240], atol=0.5 / 255)


@pytest.mark.parametrize("declared", [(0, 255), (-1e6, 0)])
def test_a_range_that_is_advised_can_be_pasted_also_a_negative_one(declared):
    """argparse takes `--range -25,-1` for two options."""
    with pytest.raises(DataError, match=r"Declare --range=-25,-1, or leave it out"):
        require_plausible(declared, np.repeat([-25.0, -1.0], 1000), "radar.tif")
