"""What `--reference` means on the command line: an index, a folder of namesakes, a folder of similar scenes."""

import logging
import os
import re

import numpy as np
import pytest
from data.builders import picture, save
from engine.processes import finish, start_together
from inference.conftest import bands_of
from PIL import Image

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.index import read_index
from ttrd3.data.indexing import update_index
from ttrd3.errors import DataError
from ttrd3.inference.reference_option import holds_namesakes, namesake
from ttrd3.inference.retrieval import RetrievedReference

TILE = ("--tile", "64", "--overlap", "0")


def similar(seed):
    """Like picture(seed, 64, 64), no duplicate of it."""
    return np.clip(picture(seed, 64, 64)[:, ::-1].astype(int) + 6, 0, 255).astype(np.uint8)


@pytest.fixture
def similar_scenes(tmp_path):
    """A folder with one tile like each of picture(0) to picture(7), at several depths."""
    for seed in range(8):
        save(tmp_path / "library" / ("deep" if seed % 2 else ".") / f"like {seed}.png", similar(seed))
    return tmp_path / "library"


@pytest.fixture
def inputs(tmp_path):
    """LR of picture(3) and picture(6)."""
    return [save(tmp_path / "lr" / f"{seed}.png", lr_from_hr(picture(seed, 64, 64))) for seed in (3, 6)]


def pixels(path):
    return np.asarray(Image.open(path))


def test_an_index(upscale, upscaler, inputs, similar_scenes, tmp_path):
    path = tmp_path / "lib.index"
    update_index(similar_scenes, path, StatisticsDescriptor(), tile=64, stride=64, workers=1)
    assert upscale(*inputs, "--reference", path, *TILE)[0] == 0
    for seed in (3, 6):
        expected = upscaler(tile=64, overlap=0).upscale(lr_from_hr(picture(seed, 64, 64)), similar(seed))
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{seed}.png"), expected)
    assert upscale(*inputs, "--reference", path, *TILE)[1].count("is done already") == 2
    code, err = upscale(*inputs, *TILE)
    assert code == 12
    assert err.count("made with other options or inputs") == 2


def test_a_folder_of_similar_scenes(upscale, inputs, similar_scenes, tmp_path):
    code, err = upscale(*inputs, "--reference", similar_scenes, *TILE)
    assert code == 0
    index = next((tmp_path / "out").glob(".library-*.index"))
    assert (
        f"--reference {similar_scenes}: holds no file of any input's name and is taken as a library of similar scenes: "
        f"8 tiles, indexed in {index}\n"
    ) in err
    by_folder = [pixels(tmp_path / "out" / path.name) for path in inputs]
    time = index.stat().st_mtime_ns
    assert upscale(*inputs, "--reference", similar_scenes, *TILE)[1].count("is done already") == 2
    assert index.stat().st_mtime_ns == time
    path = tmp_path / "lib.index"
    update_index(similar_scenes, path, StatisticsDescriptor(), tile=64, stride=64, workers=1)
    assert upscale(*inputs, "--reference", path, *TILE)[1].count("is done already") == 2  # the same references
    assert upscale(*inputs, "--reference", path, *TILE, out=tmp_path / "other")[0] == 0
    for path, found in zip(inputs, by_folder, strict=True):
        np.testing.assert_array_equal(pixels(tmp_path / "other" / path.name), found)
    save(similar_scenes / "new.png", picture(50, 64, 64))
    assert upscale(*inputs, "--reference", similar_scenes, *TILE)[1].count("made with other options or inputs") == 2
    assert len(read_index(index).tiles) == 9


def test_what_cannot_serve_is_left_out_and_told(upscale, inputs, similar_scenes, tmp_path):
    (similar_scenes / "bad.png").write_bytes(b"bad")
    save(similar_scenes / "small.png", picture(0, 20, 20))
    code, err = upscale(*inputs, "--reference", similar_scenes, *TILE)
    assert code == 0
    assert "left out: " in err
    assert "bad.png: not an image that can be read" in err
    assert "small.png: 20 x 20 pixels, smaller than the tile of 64" in err
    assert "library of similar scenes: 8 tiles" in err


def test_meanings_of_a_folder(inputs, similar_scenes, tmp_path, caplog):
    absent = tmp_path / "lr" / "absent.png"
    assert not holds_namesakes(similar_scenes, [*inputs, absent])
    save(similar_scenes / "3.jpg", picture(0))
    with pytest.raises(DataError) as error:
        holds_namesakes(similar_scenes, [*inputs, absent])
    text = str(error.value)
    assert f"--reference {similar_scenes}: holds files of the names of 1 of the 2 inputs, expected all or none" in text
    assert "add those that are missing: 6.png. To take the folder as a library of similar scenes, run" in text
    assert f"`ttrd3 index --library {similar_scenes} --out FILE` and give --reference FILE." in text
    assert holds_namesakes(similar_scenes, inputs[:1])
    save(similar_scenes / "6.tif", picture(0))
    with caplog.at_level(logging.INFO):
        assert holds_namesakes(similar_scenes, [*inputs, absent])
    assert f"--reference {similar_scenes}: each input takes the file of its name" in caplog.text
    assert holds_namesakes(similar_scenes, [absent])  # which fails by itself: nothing to index for
    with pytest.raises(DataError, match=r"lr: holds the inputs themselves: .*3\.png, .*6\.png\. Put sharp images into"):
        holds_namesakes(tmp_path / "lr", inputs)


def test_a_namesake_of_the_same_kind_comes_first(tmp_path):
    image = save(tmp_path / "a.png", picture(0))
    folder = tmp_path / "ref"
    expected = []
    for name in ("a.webp", "a.jpg", "a.tif", "a.png"):
        expected.append(save(folder / name, picture(1)))
        assert namesake(folder, image) == expected[-1]
    assert namesake(folder, tmp_path / "b.png") is None


def test_an_interrupted_scene_goes_on_with_the_same_library_only(upscale, similar_scenes, tmp_path, scene, monkeypatch):
    hr = np.hstack([picture(seed, 64, 64) for seed in range(4)])
    hr = np.vstack([hr] * 5)  # 20 tiles, more than are kept in memory
    source = scene(lr_from_hr(hr).transpose(2, 0, 1))
    asked, window = [], RetrievedReference.window

    def interrupted(self, view):
        asked.append(view)
        if len(asked) == 7:
            raise KeyboardInterrupt
        return window(self, view)

    for changed in (False, True):
        asked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(RetrievedReference, "window", interrupted)
            assert upscale(source, "--reference", similar_scenes, *TILE)[0] == 130
        if changed:
            save(similar_scenes / "new.png", picture(50, 64, 64))
        code, err = upscale(source, "--reference", similar_scenes, *TILE)
        assert code == 0
        assert ("goes on with 6 of 20 tiles done" in err) != changed
        found = bands_of(tmp_path / "out" / "scene.tif")
        assert upscale(source, "--reference", similar_scenes, *TILE, out=tmp_path / f"whole {changed}")[0] == 0
        np.testing.assert_array_equal(bands_of(tmp_path / f"whole {changed}" / "scene.tif"), found)
        (tmp_path / "out" / "scene.tif").unlink()


def test_two_processes_share_one_index_and_make_the_same(upscale, weights, similar_scenes, tmp_path, scene):
    hr = np.vstack([np.hstack([picture(seed, 64, 64) for seed in range(4)])] * 3)
    source = scene(lr_from_hr(hr).transpose(2, 0, 1))
    words = ["upscale", source, "--out", tmp_path / "both", "--weights", weights, "--reference", similar_scenes]
    log = tmp_path / "log"
    processes = start_together(log, [*map(str, words), "--device", "cpu", *TILE])
    assert [finish(process) for process in processes] == [0, 0], log.read_text()
    assert log.read_text().count("library of similar scenes: 8 tiles") == 1
    assert upscale(source, "--reference", similar_scenes, *TILE)[0] == 0
    one, two = (bands_of(tmp_path / out / "scene.tif").astype(int) for out in ("out", "both"))
    assert np.abs(one - two).max() <= 1
    assert np.abs(one - two).mean() < 5e-4


def test_no_strength_needs_no_index(upscale, inputs, tmp_path):
    (tmp_path / "bad.index").write_bytes(b"bad")
    assert upscale(*inputs, "--reference", tmp_path / "bad.index", "--strength", 0)[0] == 0


# --- what cannot be ---


def test_references_that_nothing_can_begin_with(upscale, inputs, similar_scenes, tmp_path):
    def refused(given, *words, **options):
        code, err = upscale(*inputs, "--reference", given, *TILE, *words, **options)
        assert code == 2, err
        assert err.count("ttrd3: error: ") == 1
        assert "Traceback" not in err
        assert not list((tmp_path / "out").glob("*"))
        return err.partition("ttrd3: error: ")[2]

    save(tmp_path / "some" / "3.png", picture(0, 64, 64))
    assert "add those that are missing: 6.png" in refused(tmp_path / "some")
    assert "holds the inputs themselves" in refused(tmp_path / "lr")
    (tmp_path / "nothing").mkdir()
    message = refused(tmp_path / "nothing")
    assert message.startswith(
        f"--reference {tmp_path / 'nothing'}: holds no file of any input's name and is no library"
    )
    assert "nothing holds no images; expected" in message
    save(tmp_path / "small" / "a.png", picture(0, 20, 20))
    message = refused(tmp_path / "small")
    assert "a.png: 20 x 20 pixels, smaller than the tile of 64 (--tile)" in message
    assert "add others: without them none is left" in message
    assert "--skip-bad" not in message
    assert "holds no file of any input's name, so that all in it serves as a library" in refused(
        similar_scenes, out=similar_scenes / "out"
    )
    path = tmp_path / "lib.index"
    update_index(similar_scenes, path, StatisticsDescriptor(), tile=64, stride=64, workers=1)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert f"{path}: no index, or a damaged one" in refused(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert re.search("a damaged one .its checksum is another.* run `ttrd3 index", refused(path))
    path.write_bytes(content)
    os.utime(similar_scenes / "like 2.png", ns=(0, 0))
    assert f"like 2.png: was changed after {path} was made. Run `ttrd3 index" in refused(path)


def test_an_input_is_not_its_own_reference(upscale, inputs, tmp_path):
    code, err = upscale(*inputs, "--reference", inputs[0])
    assert code == 11
    assert f"{inputs[0]}: is its own --reference. Give another one, or --reference none." in err
    assert (tmp_path / "out" / inputs[1].name).exists()


def test_the_result_never_takes_the_references_place(upscale, inputs, tmp_path):
    folder = tmp_path / "ref"
    for path in inputs:
        save(folder / path.name, picture(9, 64, 64))
    before = [(folder / path.name).read_bytes() for path in inputs]
    code, err = upscale(*inputs, "--reference", folder, "--overwrite", out=folder)
    assert code == 12
    assert err.count("the result would take the reference's place. Choose another --out.") == 2
    assert [(folder / path.name).read_bytes() for path in inputs] == before
