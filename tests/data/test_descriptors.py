import numpy as np
import pytest
from builders import SAMPLE, picture

from ttrd3.data.degrade import degrade
from ttrd3.data.descriptors import StatisticsDescriptor, describe
from ttrd3.data.images import read_rgb

COLOURS, SPECTRUM = slice(0, 288), slice(288, 312)
MAGNITUDES, TURNED, DIRECTIONS = slice(312, 324), slice(324, 331), slice(331, 343)  # of the finer scale


@pytest.fixture(scope="module")
def tiles():
    return [degrade(read_rgb(path)) for path in sorted((SAMPLE / "neon").glob("*/hr/*/*.png"))]


def uniform(*colour):
    return np.full((64, 64, 3), colour, dtype=np.uint8)


def waves(period, angle, side=256):
    """A grey wave; its crests lie across `angle`, in radians from the x axis towards y; the period is in LR pixels."""
    y, x = np.mgrid[:side, :side] / 4
    wave = 128 + 60 * np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y))
    return np.repeat(wave.round().astype(np.uint8)[..., None], 3, axis=2)


def test_colours_are_square_roots_of_shares():
    red, blue = describe(uniform(200, 40, 40))[COLOURS], describe(uniform(40, 40, 200))[COLOURS]
    assert sorted(red)[-2:] == [0, 1]
    assert red @ blue == 0
    half = uniform(200, 40, 40)
    half[:, 32:] = (40, 40, 200)
    np.testing.assert_allclose(describe(half)[COLOURS], (red + blue) / np.sqrt(2), atol=1e-6)


@pytest.mark.parametrize("bin_", [0, 3, 6, 11])
def test_directions_of_gradients_are_found(bin_):
    directions = describe(waves(10, np.pi * bin_ / 12))[DIRECTIONS] / 0.6
    assert directions.argmax() == bin_
    assert directions[bin_] ** 2 > 0.8  # share of all gradient magnitude


@pytest.mark.parametrize(("period", "ring"), [(24, 1), (16, 2), (8, 4), (4, 6)])
def test_a_wave_has_its_energy_in_its_ring(period, ring):
    edges = np.geomspace(1.5 / 64, 0.5, 9)
    assert edges[ring] <= 1 / period < edges[ring + 1]
    rings = describe(waves(period, 0.3))[SPECTRUM].reshape(8, 3)
    assert rings[:, 0].argmax() == ring
    assert rings[ring, 2] > 2 * 0.17  # it stands in one wedge of the ring


def test_a_quarter_turn_changes_directions_only(tiles):
    for tile in tiles:
        upright, turned = describe(tile), describe(np.rot90(tile).copy())
        for part in (COLOURS, MAGNITUDES, TURNED):
            np.testing.assert_allclose(turned[part], upright[part], atol=1e-4)
        np.testing.assert_allclose(turned[SPECTRUM], upright[SPECTRUM], atol=0.02)  # wedges do not fall on wedges
        np.testing.assert_allclose(turned[DIRECTIONS], np.roll(upright[DIRECTIONS], 6), atol=1e-4)


def test_only_what_lr_holds_counts(tiles):
    for tile in tiles[:3]:
        blocks = tile.reshape(64, 4, 64, 4, 3).mean((1, 3)).round().astype(np.uint8)
        coarse = blocks.repeat(4, axis=0).repeat(4, axis=1)
        assert np.linalg.norm(describe(tile) - describe(coarse)) < 0.3


def test_another_encoding_is_nearer_than_another_tile(tiles):
    found = StatisticsDescriptor()(np.stack(tiles))
    noisy = [np.clip(t + np.random.default_rng(0).integers(-3, 4, t.shape), 0, 255).astype(np.uint8) for t in tiles]
    distance = np.linalg.norm(found[:, None] - StatisticsDescriptor()(np.stack(noisy))[None], axis=2)
    assert (distance.argmin(1) == np.arange(len(tiles))).all()


def test_a_batch_changes_nothing_and_the_numbers_are_finite(tiles):
    whole = StatisticsDescriptor()(np.stack(tiles))
    assert whole.dtype == np.float32
    assert whole.shape == (len(tiles), 374)
    assert np.array_equal(whole, np.concatenate([StatisticsDescriptor()(tile[None]) for tile in tiles]))
    for odd in (uniform(0, 0, 0), uniform(255, 255, 255), picture(0, 4, 4), picture(1, 8, 12), picture(2, 40, 24)):
        assert np.isfinite(describe(odd)).all()
