"""References are encoded once and kept within bounds; what is kept changes no result, not in a single bit."""

import numpy as np
import pytest
import torch
from data.builders import picture, save

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.indexing import update_index
from ttrd3.errors import UserError
from ttrd3.inference.features import FeatureCache, size_of, stacked
from ttrd3.inference.pictures import ArrayScene
from ttrd3.inference.references import Excerpt, PictureReference
from ttrd3.inference.store import MemoryTiles
from ttrd3.networks.sttg import ReferenceFeatures


def features(value: float) -> ReferenceFeatures:
    """40 bytes."""
    return ReferenceFeatures(torch.full((1, 2), value), [torch.full((1, n), value) for n in (1, 3, 4)])


@pytest.fixture
def cache():
    """`cache(limit)` -> a cache whose references are single numbers, and the list of what it has encoded."""

    def make(limit: int):
        encoded = []

        def encode(pixels: np.ndarray) -> ReferenceFeatures:
            encoded.append(int(pixels))
            return features(float(pixels))

        return FeatureCache(encode, limit), encoded

    return make


def ask(cache: FeatureCache, *values: int) -> None:
    for value in values:
        found = cache.get(Excerpt(value, lambda value=value: np.array(value)))
        assert float(found.degraded[0, 0]) == value


def test_the_longest_unused_makes_room_and_bytes_are_bounded(cache):
    kept, encoded = cache(100)  # two of 40 bytes
    assert size_of(features(0.0)) == 40
    ask(kept, 1, 2, 1, 3)
    assert kept.bytes == 80
    assert encoded == [1, 2, 3]
    ask(kept, 1, 3)  # 2 had to go
    assert encoded == [1, 2, 3]
    ask(kept, 2)
    assert encoded == [1, 2, 3, 2]
    for value in range(50):
        ask(kept, value)
        assert kept.bytes <= 100
    kept.clear()
    assert kept.bytes == 0
    ask(kept, 49)
    assert encoded[-1] == 49


def test_what_is_not_kept(cache):
    kept, encoded = cache(39)  # smaller than one
    ask(kept, 1, 1)
    assert encoded == [1, 1]
    assert kept.bytes == 0
    kept, encoded = cache(100)
    for _ in range(2):
        kept.get(Excerpt(None, lambda: np.array(5)))
    assert encoded == [5, 5]
    assert kept.bytes == 0


def test_what_is_kept_is_not_even_read(cache):
    kept, _ = cache(100)
    ask(kept, 7)
    assert float(kept.get(Excerpt(7, lambda: 1 / 0)).degraded[0, 0]) == 7


def test_stacked_features_stand_in_turn():
    found = stacked([features(1), features(2)])
    assert found.degraded.tolist() == [[1, 1], [2, 2]]
    assert [level[:, 0].tolist() for level in found.levels] == [[1, 2]] * 3


# --- in an Upscaler ---


@pytest.fixture
def counted(upscaler):
    """`counted(name=value, ...)` -> an Upscaler, and a list that grows by one for each reference it encodes."""

    def make(**settings):
        one, calls, encode = upscaler(**settings), [], None

        def encoded(reference, degraded):
            calls.append(reference.shape)
            return encode(reference, degraded)

        encode, one.restorer.encoded = one.restorer.encoded, encoded
        return one, calls

    return make


TILES = {"tile": 64, "overlap": 16}


def test_a_picture_is_encoded_once_for_all_tiles_and_images(counted, lr):
    one, calls = counted(**TILES)
    reference = picture(9, 96, 96)  # of another shape than the image: its middle, for every tile
    first = one.upscale(lr, reference)
    assert len(calls) == 1
    one.upscale(lr[::-1].copy(), reference.copy())
    assert len(calls) == 1
    one.upscale(lr, picture(8, 96, 96))
    assert len(calls) == 2
    none, calls = counted(**TILES, feature_memory=0)
    np.testing.assert_array_equal(none.upscale(lr, reference), first)
    assert len(calls) == 3 * 2  # every tile by itself


def test_windows_of_one_place_are_not_kept(counted, lr):
    one, calls = counted(**TILES)
    same_shape = picture(9, 96, 160)
    source = PictureReference(ArrayScene(same_shape), "reference", 4)
    tiler = one.tiler(ArrayScene(lr), source, 1, 64, 1)
    tiler.run(range(len(tiler.grid)), lambda number, tile: None)
    assert len(calls) == len(tiler.grid)
    assert one.features.bytes == 0
    one.upscale(lr[:16, :16], picture(2, 64, 64))  # a whole image of one tile: others may have the same reference
    assert one.features.bytes > 0


@pytest.fixture
def library(tmp_path):
    """An index of six tiles of 64 x 64."""
    for seed in range(6):
        save(tmp_path / "library" / f"{seed}.png", picture(seed + 20, 64, 64))
    update_index(tmp_path / "library", tmp_path / "a.index", StatisticsDescriptor(), tile=64, stride=64, workers=1)
    return tmp_path / "a.index"


def test_no_result_depends_on_what_is_kept_or_on_the_order(counted, library):
    parts = [picture(20 + (2 * number) % 7, 64, 64)[:, ::-1] for number in range(9)]
    lr = lr_from_hr(np.vstack([np.hstack(parts[row : row + 3]) for row in range(0, 9, 3)])[:160, :160])
    one, _ = counted(**TILES)
    one.upscale(lr[:16, :16], picture(0, 64, 64))
    room = one.features.bytes  # for the features of one tile
    results, numbers = [], []
    for limit, order, size in ((0, 1, 1), (2**30, 1, 1), (2**30, -1, 1), (room, 1, 1), (0, 1, 2), (2**30, -1, 2)):
        one, calls = counted(**TILES, feature_memory=limit)
        source = one.library(library).references(None, one.multiple)
        tiler, store = one.tiler(ArrayScene(lr), source, 1, 64, size), MemoryTiles()
        tiler.run(list(range(len(tiler.grid)))[::order], store.put)
        assert one.features.bytes <= limit
        results.append(np.stack([store.get(number) for number in range(len(tiler.grid))]))
        numbers.append(len(calls))
    different = len({source.window(view).key for view in _views(tiler)})
    assert 3 < different < len(tiler.grid) == 9
    assert numbers[0] == numbers[4] == 9
    assert numbers[1] == numbers[2] == numbers[5] == different
    assert different < numbers[3] <= 9
    for other in results[1:4]:
        np.testing.assert_array_equal(other, results[0])
    np.testing.assert_allclose(results[4], results[0], atol=1e-4)  # a batch may sum in another order
    np.testing.assert_allclose(results[5], results[0], atol=1e-4)


def _views(tiler):
    views = []

    class Noting:
        identity = "none"

        def window(self, view):
            views.append(view)

    noting = type(tiler)(tiler.restorer, tiler.scene, tiler.grid, Noting(), tiler.features, 1, 1)
    for number in range(len(tiler.grid)):
        noting._reference(number, noting._up(number))
    return views


def test_memory_that_ran_out_is_given_back(upscaler, lr):
    one = upscaler(**TILES | {"tile": 128})
    one.upscale(lr, picture(9, 96, 96))
    assert one.features.bytes > 0
    assert one.smaller(128, 1, MemoryError()) == (64, 1)
    assert one.features.bytes == 0


def test_a_limit_that_cannot_be(upscaler):
    with pytest.raises(UserError, match="feature_memory: found -1, expected at least 0"):
        upscaler(feature_memory=-1)
