import inspect

import numpy as np
import pytest
import torch
from builders import SAMPLE, authors_folder, paired_folder, picture, prepared, save
from pydantic import ValidationError

from ttrd3.data.augment import apply_symmetry
from ttrd3.data.degrade import degrade, lr_from_hr, up_from_lr
from ttrd3.data.images import read_rgb
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare
from ttrd3.data.triplets import TripletDataset
from ttrd3.errors import DataError
from ttrd3.registry import schema_of

NEON = str(SAMPLE / "neon")


def generator(seed=0):
    return np.random.default_rng(seed)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().transpose(1, 2, 0)


def symmetry_between(image: np.ndarray, turned: np.ndarray) -> list[int]:
    return [k for k in range(8) if np.array_equal(apply_symmetry(image, k), turned)]


def test_a_sample_is_what_lies_on_the_disk():
    dataset = TripletDataset(NEON, "val", seed=0)
    assert len(dataset) == 5
    assert dataset.classes == ["forest", "meadow", "road", "windthrow"]
    for index in range(5):
        sample = dataset.sample(index, generator(index))
        class_name, name = sample["name"].split("/")
        hr = read_rgb(SAMPLE / f"neon/val/hr/{class_name}/{name}.png")
        reference = read_rgb(SAMPLE / f"neon/ref/hr/{sample['reference_name']}.png")
        assert sample["class_name"] == class_name == sample["reference_name"].split("/")[0]
        assert sample["has_reference"] is True
        expected = {
            "hr": hr,
            "lr": lr_from_hr(hr),
            "up": degrade(hr),
            "reference": reference,
            "degraded_reference": degrade(reference),
        }
        for key, value in expected.items():
            assert sample[key].dtype == torch.uint8
            assert sample[key].is_contiguous()
            np.testing.assert_array_equal(array(sample[key]), value, err_msg=key)


def test_without_reference_there_are_zeros():
    for dataset in (
        TripletDataset(NEON, "train", reference="none", seed=0),
        TripletDataset(NEON, "train", reference_dropout=1.0, seed=0),
    ):
        sample = dataset.sample(0, generator())
        assert sample["has_reference"] is False
        assert sample["reference_name"] == ""
        for key in ("reference", "degraded_reference"):
            assert sample[key].shape == (3, 256, 256)
            assert not sample[key].any()


def test_dropout_leaves_out_its_share(tmp_path):
    dataset = TripletDataset(str(prepared(tmp_path, {"a": 2})), "train", reference_dropout=0.3, seed=0)
    kept = sum(dataset.sample(0, generator(seed))["has_reference"] for seed in range(400))
    assert abs(kept / 400 - 0.7) < 0.07  # three standard deviations


@pytest.mark.parametrize("augmentation", ["none", "joint", "separate"])
def test_augmentation_turns_hr_and_lr_alike_and_the_reference_as_asked(tmp_path, augmentation):
    root = prepared(tmp_path, {"a": 2})
    dataset = TripletDataset(str(root), "train", augmentation=augmentation, seed=0)
    hr, reference = (read_rgb(root / f"train/hr/a/a0{number}.png") for number in (0, 1))
    pairs = set()
    for seed in range(150):
        sample = dataset.sample(0, generator(seed))
        (turn,) = symmetry_between(hr, array(sample["hr"]))
        assert symmetry_between(lr_from_hr(hr), array(sample["lr"])) == [turn]
        np.testing.assert_array_equal(array(sample["up"]), up_from_lr(array(sample["lr"])))
        (other,) = symmetry_between(reference, array(sample["reference"]))
        np.testing.assert_array_equal(array(sample["degraded_reference"]), degrade(array(sample["reference"])))
        pairs.add((turn, other))
    if augmentation == "none":
        assert pairs == {(0, 0)}
    elif augmentation == "joint":
        assert pairs == {(k, k) for k in range(8)}
    else:
        assert {turn for turn, _ in pairs} == {other for _, other in pairs} == set(range(8))
        assert len(pairs) > 30


def place(image: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    height, width = part.shape[:2]
    (found,) = [
        (top, left)
        for top in range(image.shape[0] - height + 1)
        for left in range(image.shape[1] - width + 1)
        if np.array_equal(image[top : top + height, left : left + width], part)
    ]
    return found


def test_crop_cuts_hr_and_lr_at_one_place_and_the_reference_at_its_own(tmp_path):
    root = prepared(tmp_path, {"a": 2}, side=48)
    dataset = TripletDataset(str(root), "train", crop=16, seed=0)
    hr, reference = (read_rgb(root / f"train/hr/a/a0{number}.png") for number in (0, 1))
    places = set()
    for seed in range(30):
        sample = dataset.sample(0, generator(seed))
        top, left = place(hr, array(sample["hr"]))
        assert top % 4 == left % 4 == 0
        np.testing.assert_array_equal(
            array(sample["lr"]), lr_from_hr(hr)[top // 4 : top // 4 + 4, left // 4 : left // 4 + 4]
        )
        np.testing.assert_array_equal(array(sample["up"]), up_from_lr(array(sample["lr"])))
        places.add(((top, left), place(reference, array(sample["reference"]))))
    assert len({own for own, _ in places}) > 15
    assert any(own != other for own, other in places)


def test_paired_takes_the_partner_and_the_same_window(tmp_path):
    root = paired_folder(tmp_path, side=48)
    dataset = TripletDataset(str(root), "train", reference="paired", crop=16, seed=0)
    for index, name in enumerate("abc"):
        hr, reference = (read_rgb(root / f"train/{kind}/images/{name}.png") for kind in ("hr", "ref"))
        sample = dataset.sample(index, generator(index))
        assert sample["reference_name"] == f"images/{name}"
        assert place(hr, array(sample["hr"])) == place(reference, array(sample["reference"]))


def test_every_other_image_of_the_class_is_drawn_and_never_the_image_itself(tmp_path):
    dataset = TripletDataset(str(prepared(tmp_path, {"a": 4, "b": 3})), "train", seed=0)
    for index, tile in enumerate(dataset.tiles):
        drawn = {dataset.sample(index, generator(seed))["reference_name"] for seed in range(60)}
        same = {other.name for other in dataset.tiles if other.class_name == tile.class_name}
        assert drawn == same - {tile.name}


def add_twins(raw):
    """a00 again, byte for byte in other file format and re-encoded as JPEG."""
    image = picture(0, 64, 64)
    save(raw / "a" / "a00.png", image)
    save(raw / "a" / "twin_exact.tif", image)
    save(raw / "a" / "twin_jpeg.jpg", image, quality=85)
    save(raw / "a" / "other.png", picture(1, 64, 64))


def test_duplicates_are_never_references(tmp_path):
    add_twins(tmp_path / "raw")
    prepare(
        tmp_path / "raw", tmp_path / "out", PrepareOptions(64, 64, {"val": 0.0, "test": 0.0, "ref": 0.0}), workers=1
    )
    dataset = TripletDataset(str(tmp_path / "out"), "train", seed=0)
    for index, tile in enumerate(dataset.tiles):
        drawn = {dataset.sample(index, generator(seed))["reference_name"] for seed in range(30)}
        assert drawn == ({"a/a00", "a/twin_exact", "a/twin_jpeg"} if tile.name == "a/other" else {"a/other"})


def test_duplicates_in_the_authors_layout_are_found_when_drawn(tmp_path):
    root = authors_folder(tmp_path, {"train": ["a_0", "a_1"], "ref": ["a_7", "a_8"]}, side=64)
    twin = read_rgb(root / "train/hr_64/a_0.png")
    save(root / "ref/hr_64/a_7.png", twin)
    dataset = TripletDataset(str(root), "train", seed=0)
    assert {dataset.sample(0, generator(seed))["reference_name"] for seed in range(30)} == {"a_8"}
    assert {dataset.sample(1, generator(seed))["reference_name"] for seed in range(30)} == {"a_7", "a_8"}
    save(root / "ref/hr_64/a_8.png", twin)
    lonely = TripletDataset(str(root), "train", seed=0)
    with pytest.raises(DataError, match=r"no reference for class a.*reference: none"):
        lonely.sample(0, generator())


def test_random_references_are_of_any_class_but_never_the_image_itself(tmp_path):
    root = prepared(tmp_path, {"a": 3, "b": 3, "alone": 1})
    dataset = TripletDataset(str(root), "train", "random", seed=0)
    for index, tile in enumerate(dataset.tiles):
        found = {dataset.sample(index, generator(n))["reference_name"] for n in range(60)}
        assert found == {other.name for other in dataset.tiles} - {tile.name}


def test_overlapping_tiles_of_one_image_are_never_references(tmp_path):
    save(tmp_path / "raw/a/a.png", picture(0, 32, 80))
    options = PrepareOptions(32, 16, {"val": 0.0, "test": 0.0, "ref": 0.0})
    prepare(tmp_path / "raw", tmp_path / "out", options, workers=1)
    dataset = TripletDataset(str(tmp_path / "out"), "train", seed=0)
    lefts = [int(tile.name[-4:]) for tile in dataset.tiles]
    assert lefts == [0, 16, 32, 48]
    for index, left in enumerate(lefts):
        drawn = {int(dataset.sample(index, generator(seed))["reference_name"][-4:]) for seed in range(30)}
        assert drawn == {other for other in lefts if abs(other - left) >= 32}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_without_reference_is_refused_at_once(tmp_path, split):
    lists = {"val": ["lonely/*"]} if split == "val" else {}
    root = str(prepared(tmp_path, {"forest": 3, "lonely": 1}, lists))
    with pytest.raises(DataError, match=r"no reference for class lonely.*Add images.*reference: none"):
        TripletDataset(root, split, seed=0)
    assert len(TripletDataset(root, split, reference="none", seed=0)) > 0


def test_reference_split_auto_prefers_ref_and_never_takes_val_or_test(tmp_path):
    lists = {"val": ["a/a00"], "test": ["a/a01"], "ref": ["a/a02"]}
    root = str(prepared(tmp_path, {"a": 6}, lists))

    def drawn(split, reference_split):
        dataset = TripletDataset(root, split, reference_split=reference_split, seed=0)
        return {dataset.sample(0, generator(seed))["reference_name"] for seed in range(60)}

    assert drawn("val", "auto") == drawn("train", "auto") == drawn("val", "ref") == {"a/a02"}
    assert drawn("test", "train") == {"a/a03", "a/a04", "a/a05"}
    with pytest.raises(ValidationError):
        schema_of(TripletDataset).model_validate({"root": root, "reference_split": "test"})


def test_paired_without_partners_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"reference: paired needs .*train/ref, which is not there"):
        TripletDataset(str(prepared(tmp_path, {"a": 2})), "train", reference="paired", seed=0)


@pytest.mark.parametrize("mode", ["same_class", "paired"])
def test_reference_of_another_size_names_both_files(tmp_path, mode):
    if mode == "paired":
        root = paired_folder(tmp_path)
        other = root / "train/ref/images/a.png"
    else:
        root = prepared(tmp_path, {"a": 2})
        other = root / "train/hr/a/a01.png"
    save(other, picture(9, 48, 32))
    dataset = TripletDataset(str(root), "train", reference=mode, seed=0)
    with pytest.raises(DataError) as error:
        dataset.sample(0, generator())
    for text in (str(other), "32 x 48", str(dataset.tiles[0].hr), "32 x 32"):
        assert text in str(error.value)


def test_lr_of_a_wrong_size_and_damaged_files_are_told_by_name(tmp_path):
    root = prepared(tmp_path, {"a": 2})
    dataset = TripletDataset(str(root), "train", reference="none", seed=0)
    save(root / "train/lr/a/a00.png", picture(0, 8, 4))
    with pytest.raises(DataError, match=r"lr/a/a00.png: found 4 x 8 pixels"):
        dataset.sample(0, generator())
    path = root / "train/hr/a/a01.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"hr/a/a01.png: truncated"):
        dataset.sample(1, generator())


def test_limit_takes_so_many_drawn_by_the_seed(tmp_path):
    root = str(prepared(tmp_path, {"a": 8, "b": 8}))

    def names(seed, limit=6):
        return [tile.name for tile in TripletDataset(root, "train", limit=limit, seed=seed).tiles]

    assert len(names(0)) == 6
    assert names(0) == names(0) == sorted(names(0))
    assert names(0) != names(1)
    assert {name[0] for name in names(0)} == {"a", "b"}
    assert len(names(0, limit=99)) == 16


def test_options_are_checked_and_described():
    schema = schema_of(TripletDataset)
    parameters = inspect.signature(TripletDataset).parameters.values()
    assert [*schema.model_fields] == [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
    assert all(field.description for field in schema.model_fields.values())
    for bad in (
        {"crop": 30},
        {"crop": 0},
        {"limit": 0},
        {"reference_dropout": 1.5},
        {"reference": "nearest"},
        {"a": 1},
    ):
        with pytest.raises(ValidationError):
            schema.model_validate({"root": "data", **bad})
