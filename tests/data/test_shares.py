"""Shares of samples with another reference than the mode's: how many, which, and what stays as it was."""

from collections import Counter

import numpy as np
import pytest
from builders import picture, prepared, save

from ttrd3.data import warped
from ttrd3.data.augment import apply_symmetry, draw_symmetry, draw_window
from ttrd3.data.degrade import degrade
from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.images import read_rgb
from ttrd3.data.indexing import update_index
from ttrd3.data.triplets import TripletDataset
from ttrd3.errors import ConfigError


def generator(seed=0):
    return np.random.default_rng(seed)


def array(tensor):
    return tensor.numpy().transpose(1, 2, 0)


@pytest.fixture
def root(tmp_path):
    return prepared(tmp_path, {"a": 3, "b": 3}, side=32)


@pytest.fixture
def library(tmp_path):
    for seed in range(4):
        save(tmp_path / "library" / f"scene{seed}.png", picture(50 + seed))
    update_index(tmp_path / "library", tmp_path / "lib.index", StatisticsDescriptor(), tile=32, stride=32, workers=1)
    return str(tmp_path / "lib.index")


def kind(dataset, seed):
    sample = dataset.sample(0, generator(seed))
    name = sample["reference_name"]
    assert sample["has_reference"]
    np.testing.assert_array_equal(array(sample["degraded_reference"]), degrade(array(sample["reference"])))
    return "warped" if name == "a/a00, warped" else "retrieved" if name.startswith("scene") else name


@pytest.mark.parametrize("reference", ["same_class", "random", "retrieved"])
def test_each_kind_has_its_share(root, library, reference):
    dataset = TripletDataset(str(root), "train", reference, index=library, retrieved=0.25, warped=0.5, seed=0)
    found = Counter(kind(dataset, seed) for seed in range(400))
    own = found.total() - found["warped"] - found["retrieved"]
    if reference == "retrieved":
        assert own == 0
    else:
        assert abs(found["retrieved"] / 400 - 0.25) < 0.065  # three standard deviations
        assert abs(own / 400 - 0.25) < 0.065
        others = {name for name in found if name not in ("warped", "retrieved")}
        assert others == ({"a/a01", "a/a02"} if reference == "same_class" else {f"{n[0]}/{n}" for n in
                          ("a01", "a02", "b00", "b01", "b02")})  # fmt: skip
    assert abs(found["warped"] / 400 - 0.5) < 0.075


def test_a_share_of_one_is_every_sample(root, library):
    for share in ("retrieved", "warped"):
        dataset = TripletDataset(str(root), "train", index=library, **{share: 1.0}, seed=0)
        assert {kind(dataset, seed) for seed in range(20)} == {share}


def test_the_generator_decides_everything(root, library):
    options = {"retrieved": 0.3, "warped": 0.4, "augmentation": "separate", "crop": 16, "reference_dropout": 0.2}
    one, two = (TripletDataset(str(root), "train", index=library, **options, seed=0) for _ in range(2))
    for seed in range(20):
        first, second = one.sample(1, generator(seed)), two.sample(1, generator(seed))
        assert first["reference_name"] == second["reference_name"]
        assert all(np.array_equal(first[key], second[key]) for key in ("hr", "up", "reference", "degraded_reference"))


@pytest.mark.parametrize("augmentation", ["separate", "joint", "none"])
def test_a_warped_reference_is_cut_and_turned_with_its_image(root, monkeypatch, augmentation):
    for name in ("TURN", "ZOOM", "NEAR", "FAR", "GAIN", "OFFSET", "GAMMA", "CHANGED", "GRAIN"):
        monkeypatch.setattr(warped, name, 0.0)
    dataset = TripletDataset(str(root), "train", warped=1.0, augmentation=augmentation, crop=16, seed=0)
    samples = [dataset.sample(0, generator(seed)) for seed in range(10)]
    assert len({sample["hr"].numpy().tobytes() for sample in samples}) > 5
    for sample in samples:
        np.testing.assert_array_equal(array(sample["reference"]), array(sample["hr"]))


def test_without_shares_the_order_of_draws_is_that_of_older_versions(root):
    """Dropout, window, turn; then the reference, its window, its turn."""
    dataset = TripletDataset(str(root), "train", reference_dropout=0.1, augmentation="separate", crop=16, seed=0)
    tiles = [read_rgb(root / f"train/hr/a/a0{number}.png") for number in range(3)]
    compared = 0
    for seed in range(10):
        rng = generator(seed)
        kept = rng.random() >= 0.1
        window, turn = draw_window(rng, (32, 32, 3), 16), draw_symmetry(rng, (16, 16))
        sample = dataset.sample(0, generator(seed))
        assert sample["has_reference"] == kept
        np.testing.assert_array_equal(array(sample["hr"]), apply_symmetry(tiles[0][window], turn))
        if kept:
            other = next(number for number in rng.permutation(3) if number > 0)
            window, turn = draw_window(rng, (32, 32, 3), 16), draw_symmetry(rng, (16, 16))
            np.testing.assert_array_equal(array(sample["reference"]), apply_symmetry(tiles[other][window], turn))
            assert sample["reference_name"] == f"a/a0{other}"
            compared += 1
    assert compared > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retrieved": 0.6, "warped": 0.5}, r"retrieved: 0\.6, warped: 0\.5: found shares .* more than 1"),
        (
            {"warped": 0.1, "reference": "none"},
            r"warped: 0\.1: found with reference: none.*expected same_class",
        ),
        ({"retrieved": 0.1, "reference": "paired"}, r"retrieved: 0\.1: found with reference: paired"),
        ({"warped": 0.1, "reference": "retrieved", "references": 2}, "references: 2, expected .*retrieved, and 1"),
        ({"retrieved": 0.1}, r"index: found nothing, but .* a share `retrieved` .*ttrd3 index"),
    ],
)
def test_shares_that_cannot_be(root, options, message):
    with pytest.raises(ConfigError, match=message):
        TripletDataset(str(root), "train", **options, seed=0)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_truth_is_never_shown_but_in_training(tmp_path, split):
    root = prepared(tmp_path, {"a": 4}, {split: ["a/a00", "a/a01"]})
    with pytest.raises(ConfigError, match=rf"warped: found 0\.5 for the split {split}, expected 0: .*in training only"):
        TripletDataset(str(root), split, warped=0.5, seed=0)
    assert TripletDataset(str(root), split, seed=0)
