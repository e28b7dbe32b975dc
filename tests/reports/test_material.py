"""The pictures of a validation, found again."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from reports.conftest import change_protocol

from ttrd3.data.degrade import degrade, lr_from_hr
from ttrd3.errors import DataError
from ttrd3.reports.material import Material, with_reference, without_reference
from ttrd3.reports.runs import read_run


def png(path):
    return np.asarray(Image.open(path))


def twin(run):
    return without_reference(run.folder, run.protocol)


def test_finds_every_picture_again(validations):
    run = read_run(validations.with_reference)
    material = Material(run)
    for (class_name, image), entry in run.entries.items():
        found = material[class_name, image]
        hr = png(validations.data / "val" / "hr" / f"{image}.png")
        np.testing.assert_array_equal(found.hr, hr)
        np.testing.assert_array_equal(found.lr, lr_from_hr(hr))
        np.testing.assert_array_equal(found.up, degrade(hr))
        np.testing.assert_array_equal(found.sr, png(validations.with_reference / "images" / f"{image}.png"))
        np.testing.assert_array_equal(found.reference, png(validations.data / "train/hr" / f"{entry.reference}.png"))
        np.testing.assert_array_equal(found.without_reference, png(validations.without / "images" / f"{image}.png"))


def test_windows_are_cut_as_validation_cut_them(tiny):
    """Crops, their references and augmentation are random: drawn again, they must be the same."""
    from ttrd3.engine.trainer import Trainer
    from ttrd3.engine.validation import validate_weights

    settings = ["train.steps=1", "data.val.crop=32", "data.val.augmentation=separate", "data.val.limit=2"]
    Trainer(tiny(*settings)).run()
    _, folder = validate_weights(tiny(*settings))
    run = read_run(folder)
    material = Material(run)  # refuses windows whose bicubic has another PSNR than was written
    for key in run.entries:
        assert material[key].hr.shape == material[key].reference.shape == (32, 32, 3)


def test_without_references_there_is_neither_reference_nor_twin(validations):
    run = read_run(validations.without)
    found = Material(run)[next(iter(run.entries))]
    assert found.reference is None
    assert found.without_reference is None


def test_the_twin_has_the_same_weights_and_protocol(copied):
    run = read_run(copied.with_reference)
    assert twin(run) == copied.without
    other_weights = copied.without.with_name(f"other-{copied.without.name}")
    copied.without.rename(other_weights)
    assert twin(run) is None
    other_weights.rename(copied.without)
    change_protocol(copied.without, seed=11)
    assert twin(run) is None


@pytest.mark.parametrize("older", ["with_reference", "without"])
def test_a_twin_may_be_of_a_version_that_knew_fewer_options(copied, older):
    change_protocol(getattr(copied, older), ensemble=None, fidelity=None, match_colours=None, augmentation=None)
    assert twin(read_run(copied.with_reference)) == copied.without


@pytest.mark.parametrize("other", ["with_reference", "without"])
@pytest.mark.parametrize(
    "change",
    [{"ensemble": True}, {"fidelity": 0.5}, {"crop": 32}, {"limit": 2}, {"model.transfer.normalization": "overlap"}],
    ids=str,
)
def test_what_only_one_of_two_protocols_says_is_no_version_unless_it_is_off(copied, other, change):
    left_out = dict.fromkeys(change)  # None: not written at all
    for folder in (copied.with_reference, copied.without):
        change_protocol(folder, **left_out)
    run = read_run(copied.with_reference)
    assert twin(run) == copied.without
    change_protocol(getattr(copied, other), **change)
    assert twin(read_run(copied.with_reference)) is None


def test_how_references_are_retrieved_makes_no_other_twin(copied):
    change_protocol(copied.with_reference, index="scenes.index", top=2, references=2, match_colours="moments")
    assert twin(read_run(copied.with_reference)) == copied.without


def test_training_s_own_validation_has_the_twin_too(copied):
    own = copied.run / "validation" / "step-00000001"
    shutil.copytree(copied.with_reference, own, dirs_exist_ok=True)
    assert twin(read_run(own)) == copied.without


def test_a_twin_on_data_that_training_did_not_have(copied):
    """`val` puts the name of other data than training's into the folder's; training's own validation has none."""
    own = copied.run / "validation" / "step-00000001"
    shutil.copytree(copied.with_reference, own, dirs_exist_ok=True)
    copied.without.rename(copied.without.with_name(copied.without.name.replace("-val-", "-data-val-")))
    assert twin(read_run(own)).name.startswith("step-00000001-data-val-none-")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"protocol": null}', "{}"])
def test_neighbours_that_cannot_be_read_are_no_twins(copied, text):
    other = copied.without.with_name("a")
    other.mkdir()
    (other / "results.json").write_text(text)
    assert twin(read_run(copied.with_reference)) == copied.without


def test_of_a_run_the_newest_is_shown_but_not_the_twin_that_shows_what_references_change(copied):
    results = {folder: folder / "results.json" for folder in (copied.with_reference, copied.without)}
    os.utime(results[copied.with_reference], ns=(10**18, 10**18))
    os.utime(results[copied.without], ns=(2 * 10**18, 2 * 10**18))
    for path in copied.run.glob("validation/step-00000001/results.json"):
        os.utime(path, ns=(3 * 10**17, 3 * 10**17))
    assert with_reference(copied.run) == copied.with_reference
    assert with_reference(copied.without) == copied.without  # asked for by name
    change_protocol(copied.without, seed=11)  # no twin
    os.utime(results[copied.without], ns=(2 * 10**18, 2 * 10**18))
    assert with_reference(copied.run) == copied.without


def test_data_that_has_gone_or_moved(copied):
    moved = copied.data.with_name("moved")
    copied.data.rename(moved)
    run = read_run(copied.with_reference)
    with pytest.raises(DataError, match=r"its data, .*/data, is not there.*--data DIR"):
        Material(run)
    assert Material(run, moved)[next(iter(run.entries))].hr.shape == (64, 64, 3)


def test_data_that_has_changed(copied):
    run = read_run(copied.with_reference)
    key = next(iter(run.entries))
    path = copied.data / "val" / "hr" / f"{key[1]}.png"
    changed = 255 - png(path)
    Image.fromarray(changed).save(path)
    with pytest.raises(DataError, match=rf"no longer what was validated: bicubic of {key[1]} had .* dB, now it has"):
        Material(run)[key]


def test_another_reference_than_was_taken(copied):
    path = copied.with_reference / "per_image.csv"
    path.write_text(path.read_text().replace("harbor/harbor04", "harbor/harbor99"))
    run = read_run(copied.with_reference)
    key = next(key for key, entry in run.entries.items() if entry.reference == "harbor/harbor99")
    with pytest.raises(DataError, match=r"the reference of .* was harbor/harbor99, now it is harbor/harbor04"):
        Material(run)[key]


def test_restored_images_that_are_missing_or_of_another_size(copied):
    run = read_run(copied.with_reference)
    key = next(iter(run.entries))
    Image.new("RGB", (32, 32)).save(copied.with_reference / "images" / f"{key[1]}.png")
    with pytest.raises(DataError, match="found 32 x 32 pixels, expected 64 x 64"):
        Material(run)[key]
    (copied.with_reference / "images" / f"{key[1]}.png").unlink()
    with pytest.raises(DataError, match=r"\.png: no such file"):
        Material(run)[key]
    shutil.rmtree(copied.with_reference / "images")
    with pytest.raises(DataError, match=r"no restored images in it. Validate again with val.save_images=true"):
        Material(run)


def test_an_image_that_the_data_no_longer_has(copied):
    run = read_run(copied.with_reference)
    with pytest.raises(DataError, match="beach/beach77 is not in it"):
        Material(run)["beach", "beach/beach77"]
