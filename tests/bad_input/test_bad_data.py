"""Folders and images that nobody can use, in preparation, training and validation."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from data.builders import authors_folder, class_folders, paired_folder, picture, prepared, save, write_png16
from PIL import Image

from ttrd3.__main__ import main

SIDE = 32


def cut_short(path: Path) -> None:
    save(path, picture(0, SIDE, SIDE))
    path.write_bytes(path.read_bytes()[:-700])


def with_alpha() -> np.ndarray:
    return np.dstack([picture(0, SIDE, SIDE), np.full((SIDE, SIDE, 1), 255, np.uint8)])


IMAGES = {
    "truncated": (cut_short, "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("no image"), "not an image that can be read"),
    "16-bit": (lambda path: write_png16(path, np.full((SIDE, SIDE, 3), 40000, np.uint16)), "found 16-bit RGB"),
    "grey": (lambda path: save(path, picture(0, SIDE, SIDE)[:, :, 0]), "found grey"),
    "RGBA": (lambda path: save(path, with_alpha()), "found RGB with an alpha channel (RGBA)"),
    "palette": (lambda path: Image.fromarray(picture(0, SIDE, SIDE)).quantize(16).save(path), "found palette"),
    "wrong size": (lambda path: save(path, picture(0, SIDE, SIDE - 4)), "expected a quarter of the"),
}


@pytest.fixture
def root(tmp_path):
    return prepared(tmp_path, {"forest": 3, "meadow": 2}, side=SIDE)


def of(root: Path, *settings: str) -> list[str]:
    """Settings that train and validate on whole tiles of the one split of `root`."""
    folders = [
        f"data.{part}.{key}" for part in ("train", "val") for key in (f"root={root}", "split=train", "crop=null")
    ]
    return [*folders, "data.val.limit=null", *settings]


# --- images ---


@pytest.mark.parametrize("kind", ["hr", "lr"])
@pytest.mark.parametrize("case", IMAGES)
def test_images_in_training_and_validation(refused, tiny_words, trained, root, case, kind):
    spoil, text = IMAGES[case]
    tiles = sorted((root / "train" / kind).rglob("*.png"))
    for tile in tiles:
        spoil(tile)
    for words in (
        tiny_words("train", *of(root), "name=new"),
        tiny_words("val", *of(root), f"weights={trained / 'weights.safetensors'}", "name=new"),
    ):
        message = refused(*words)
        assert text in message
        assert any(str(tile) in message for tile in tiles)
    assert not list((trained.parent / "new").rglob("*.*"))


@pytest.mark.parametrize("case", IMAGES)
def test_images_in_preparation(refused, tmp_path, case):
    spoil, text = IMAGES[case]
    class_folders(tmp_path / "raw", {"forest": 2}, SIDE)
    bad = tmp_path / "raw" / "forest" / "bad.png"
    spoil(bad)
    out = tmp_path / "out"
    message = refused("prepare", "--source", tmp_path / "raw", "--out", out, "--tile", SIDE, "--workers", 1)
    assert str(bad) in message
    assert ("28 x 32 pixels, smaller than the tile of 32" if case == "wrong size" else text) in message
    assert "run again with --skip-bad" in message
    assert not (out / "manifest.json").exists()


def test_validation_images_are_tried_before_step_0(refused, tiny_words, root):
    assert "forest/forest00.png: crop: 64 pixels asked for, but an image has 32 x 32" in refused(
        *tiny_words("train", *of(root, "data.val.crop=64"))
    )


def test_a_crop_larger_than_the_tiles(refused, tiny_words, trained):
    message = refused(*tiny_words("train", "data.train.crop=512", "name=new"))
    assert ".png: crop: 512 pixels asked for, but an image has 256 x 256. Set crop to at most its size" in message
    assert "crop: 512 pixels" in refused(*tiny_words("val", "data.val.crop=512"))


def test_the_smallest_crop_is_no_mistake(tiny_words, root):
    """4 HR pixels are one LR pixel: whichever way it is turned, it is an image."""
    assert main(tiny_words("train", *of(root, "data.train.crop=4", "data.val.crop=16", "train.steps=8"))) == 0


def test_tiles_of_different_sizes_in_a_batch(refused, tiny_words, tmp_path):
    root = authors_folder(tmp_path / "theirs", {"train": ["airport_1", "airport_2"]}, SIDE)
    save(root / "train/hr_32/airport_2.png", picture(5, 64, 64))
    save(root / "train/lr_8/airport_2.png", picture(6, 16, 16))
    words = of(root, "data.train.reference=none", "data.val.reference=none")
    assert "images of different sizes (32 x 32, 64 x 64)" in refused(*tiny_words("train", *words))


# --- folders ---


def test_a_missing_root(refused, tiny_words, tmp_path):
    message = refused(*tiny_words("train", *of(tmp_path / "AID")))
    assert message.startswith(f"data root {tmp_path / 'AID'}: no such folder")
    assert "ttrd3 prepare --source DIR" in message
    assert "sh train.sh options/quickstart.yml" in message


def test_an_empty_root_and_raw_images(refused, tiny_words, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not a prepared folder" in refused(*tiny_words("train", *of(tmp_path / "empty")))
    raw = class_folders(tmp_path / "raw", {"forest": 2})
    assert f"run `ttrd3 prepare --source {raw} --out DIR`" in refused(*tiny_words("train", *of(raw)))


def test_a_half_filled_root(refused, tiny_words, root):
    (root / "train/lr/forest/forest01.png").unlink()
    assert "1 HR without LR: forest/forest01" in refused(*tiny_words("train", *of(root)))
    shutil.rmtree(root / "train/hr/meadow")
    shutil.rmtree(root / "train/lr/meadow")
    (root / "train/hr/forest/forest01.png").unlink()
    assert "3 listed in tiles.csv are missing" in refused(*tiny_words("train", *of(root)))


def test_a_split_that_is_not_there(refused, tiny_words, trained):
    message = refused(*tiny_words("val", "data.val.split=test"))
    assert "no images for the split 'test'; found: train, val, ref" in message


def test_a_class_with_a_single_image(refused, tiny_words, tmp_path):
    root = prepared(tmp_path, {"forest": 3, "harbor": 1}, side=SIDE)
    message = refused(*tiny_words("train", *of(root)))
    assert f"{root}/train: no reference for class harbor" in message
    assert "Add images of the class, or set reference: none" in message


def test_references_that_do_not_pair(refused, tiny_words, root, tmp_path):
    assert "reference: paired needs" in refused(*tiny_words("train", *of(root, "data.train.reference=paired")))
    paired = paired_folder(tmp_path / "paired", side=SIDE)
    (paired / "train/ref/images/b.png").unlink()
    message = refused(*tiny_words("train", *of(paired, "data.train.reference=paired", "data.val.reference=paired")))
    assert "without a paired reference" in message


# --- preparation ---


def test_sources_that_are_not_there_or_empty(refused, tmp_path):
    def prepare(source):
        return refused("prepare", "--source", source, "--out", tmp_path / "out", "--workers", 1)

    assert f"--source: {tmp_path / 'none'} is not a folder" in prepare(tmp_path / "none")
    (tmp_path / "raw" / "forest").mkdir(parents=True)
    assert "no images in it; expected" in prepare(tmp_path / "raw")
    assert not (tmp_path / "out").exists()


def test_names_that_do_not_pair(refused, tmp_path):
    for name in ("hr/a.png", "ref/b.png", "hr/c.png", "ref/c.png"):
        save(tmp_path / "raw" / name, picture(0))
    message = refused("prepare", "--source", tmp_path / "raw", "--out", tmp_path / "out", "--tile", SIDE)
    assert "hr/a.png: no reference of the same name in ref/" in message
    assert "ref/b.png: no image of the same name in hr/" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png"])
def test_names_that_the_manifest_cannot_hold(refused, tmp_path, name):
    image = save(tmp_path / "raw" / "forest" / "a.png", picture(0))
    try:
        image.rename(image.with_name(name.decode("utf-8", "surrogateescape")))
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    message = refused("prepare", "--source", tmp_path / "raw", "--out", tmp_path / "out", "--tile", SIDE)
    assert "1 images with line breaks or bytes that are not UTF-8 in their names" in message
    assert not (tmp_path / "out").exists()
