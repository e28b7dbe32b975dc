"""Folders of images that belong together."""

import numpy as np
import pytest
from PIL import Image

from ttrd3.data.folders import match_folders
from ttrd3.errors import DataError


def save(path, size=(16, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)


def make(tmp_path, **folders):
    """{role: [names]}; LR is a quarter in size."""
    for role, names in folders.items():
        for name in names:
            save(tmp_path / role / name, (4, 3) if role == "lr" else (16, 12))
    return {role: tmp_path / role for role in folders}


def test_matches_by_relative_path_whatever_the_suffix(tmp_path):
    folders = make(tmp_path, sr=["b/1.png", "a/1.png"], hr=["a/1.tif", "b/1.png"], lr=["a/1.png", "b/1.png"])
    matches, scale = match_folders(folders)
    assert [(match.name, match.class_name) for match in matches] == [("a/1", "a"), ("b/1", "b")]
    assert matches[0].paths == {role: folders[role] / "a" / f"1.{'tif' if role == 'hr' else 'png'}" for role in folders}
    assert scale == 4


@pytest.mark.parametrize(("sr", "hr"), [(["x.png", "y.png"], ["a/x.png", "b/y.png"]), (["a/x.png"], ["x.png"])])
def test_matches_by_name_where_folders_are_arranged_differently(tmp_path, sr, hr):
    matches, scale = match_folders(make(tmp_path, sr=sr, hr=hr))
    assert [match.class_name for match in matches] == ["a", "b"][: len(sr)]
    assert [match.paths["sr"].name for match in matches] == [match.paths["hr"].name for match in matches]
    assert scale is None


def test_names_that_stand_twice_cannot_be_matched_across_arrangements(tmp_path):
    with pytest.raises(DataError, match=r"a name stands for two images: a/x and b/x\. Arrange all folders alike"):
        match_folders(make(tmp_path, sr=["x.png"], hr=["a/x.png", "b/x.png"]))


def test_missing_counterparts_are_named(tmp_path):
    folders = make(tmp_path, sr=["x.png", "y.png"], hr=["x.png"])
    with pytest.raises(DataError, match=r"--hr .*hr: no image for 1 of the 2 in --sr .*: y\. Give folders"):
        match_folders(folders)
    folders = make(tmp_path / "2", sr=["x.png"], hr=["x.png", "z.png"])
    with pytest.raises(DataError, match=r"--sr .*: no image for 1 of the 2 in --hr .*: z\. .*--subset"):
        match_folders(folders)
    matches, _ = match_folders(folders, subset=True)
    assert [match.name for match in matches] == ["x"]


def test_folders_that_do_not_belong_together_are_told_with_whole_paths(tmp_path):
    with pytest.raises(DataError, match=r"no image for 1 of the 1 in --sr .*: a/x"):
        match_folders(make(tmp_path, sr=["a/x.png"], hr=["b/z.png"]))


def test_sizes_that_do_not_fit_are_named(tmp_path):
    folders = make(tmp_path, sr=["x.png"], hr=["x.png"], lr=["x.png"])
    save(folders["sr"] / "x.png", (12, 16))
    with pytest.raises(DataError, match=r"sr/x\.png: found 12 x 16 pixels, expected the 16 x 12 of .*hr/x\.png"):
        match_folders(folders)
    save(folders["sr"] / "x.png")
    for size in ((5, 3), (32, 24), (16, 3)):
        save(folders["lr"] / "x.png", size)
        with pytest.raises(DataError, match=rf"lr/x\.png: found {size[0]} x {size[1]} .*whole fraction of the 16 x 12"):
            match_folders(folders)


def test_several_scales_are_refused(tmp_path):
    folders = make(tmp_path, sr=["x.png", "y.png"], hr=["x.png", "y.png"], lr=["x.png", "y.png"])
    save(folders["lr"] / "y.png", (8, 6))
    with pytest.raises(DataError, match="several scales: x2 of y, x4 of x"):
        match_folders(folders)


def test_folders_without_images_and_names_given_twice(tmp_path):
    folders = make(tmp_path, sr=["x.png"], hr=["x.png", "x.tif"])
    with pytest.raises(DataError, match=r"x\.tif: two images have this name, the other is x\.png"):
        match_folders(folders)
    with pytest.raises(DataError, match="no such folder"):
        match_folders(folders | {"hr": tmp_path / "nothing"})
    (tmp_path / "empty/.hidden").mkdir(parents=True)
    save(tmp_path / "empty/.hidden/x.png")
    (tmp_path / "empty/notes.txt").write_text("no image")
    with pytest.raises(DataError, match="found no images"):
        match_folders(folders | {"hr": tmp_path / "empty"})
