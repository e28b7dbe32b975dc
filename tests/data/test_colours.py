import numpy as np
import pytest
from builders import SAMPLE, paired_folder, picture

from ttrd3.data.colours import MAX_GAIN, match_moments
from ttrd3.data.degrade import degrade
from ttrd3.data.images import read_rgb
from ttrd3.data.triplets import TripletDataset


@pytest.fixture
def image():
    return read_rgb(next((SAMPLE / "neon").glob("train/hr/*/*.png")))


def recoloured(image, gains, offsets):
    return np.rint((image - 128.0) * gains + 128 + offsets).clip(0, 255).astype(np.uint8)


def test_an_affine_change_of_colours_is_undone(image):
    mild = recoloured(image, 0.6, 0)  # leaves room, so that nothing is clipped
    changed = recoloured(mild, (0.8, 1.1, 0.7), (9, -12, 20))
    found = match_moments(changed, degrade(mild)).astype(int)
    assert np.abs(found - mild).max() <= 2
    assert np.abs(changed.astype(int) - mild).mean() > 8


def test_moments_of_the_degraded_result_are_those_of_up(image):
    up = degrade(recoloured(picture(5, 64, 64), 0.5, (10, 0, -10)))
    found = degrade(match_moments(recoloured(image, 0.5, 0), up)).astype(float)
    np.testing.assert_allclose(found.mean((0, 1)), up.mean((0, 1)), atol=0.6)
    np.testing.assert_allclose(found.std((0, 1)), up.std((0, 1)), atol=1.0)


def test_contrast_is_changed_by_a_bounded_factor():
    rng = np.random.default_rng(0)
    flat = np.full((64, 64, 3), 90, dtype=np.uint8)
    flat[rng.random((64, 64)) < 0.02] = 92
    lively = picture(0, 64, 64)
    amplified = match_moments(flat, degrade(lively)).astype(int)
    assert amplified.max() - amplified.min() <= np.ceil(2 * MAX_GAIN) + np.ptp(lively.mean((0, 1)))
    uniform = np.full((64, 64, 3), 30, dtype=np.uint8)
    assert (match_moments(uniform, np.full_like(uniform, 200)) == 200).all()


def test_the_data_set_matches_each_window_and_degrades_the_result(tmp_path):
    root = str(paired_folder(tmp_path, side=48))
    plain, matched = (
        TripletDataset(root, "train", reference="paired", crop=32, match_colours=kind, seed=0)
        for kind in ("none", "moments")
    )
    for seed in range(5):
        before, after = (d.sample(0, np.random.default_rng(seed)) for d in (plain, matched))
        up, reference, expected = (
            a.numpy().transpose(1, 2, 0) for a in (after["up"], before["reference"], after["reference"])
        )
        np.testing.assert_array_equal(expected, match_moments(reference, up))
        np.testing.assert_array_equal(after["degraded_reference"].numpy().transpose(1, 2, 0), degrade(expected))
        assert (expected != reference).any()


def test_no_reference_stays_zeros(tmp_path):
    root = str(paired_folder(tmp_path, side=48))
    sample = TripletDataset(
        root, "train", reference="paired", reference_dropout=1.0, match_colours="moments", seed=0
    ).sample(0, np.random.default_rng(0))
    assert not sample["reference"].any()
