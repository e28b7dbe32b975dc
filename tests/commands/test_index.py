"""`ttrd3 index` as users run it."""

import re

import numpy as np
import pytest
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.data.index import read_index
from ttrd3.environment import ROOT


@pytest.fixture
def library(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "my library" / f"image {number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return tmp_path / "my library"


def words(library, out, *more):
    return ["index", "--library", str(library), "--out", str(out), "--tile", "32", "--workers", "1", *more]


def test_says_what_became_of_the_index(library, tmp_path, capsys):
    out = tmp_path / "lib.index"
    assert main(words(library, out)) == 0
    text = capsys.readouterr().out
    assert "24 tiles of 32 x 32; files: 6 new, 0 changed, 0 unchanged, 0 deleted, 0 left out" in text
    assert f"    index: {out}" in text.splitlines()
    (library / "image 0.png").unlink()
    (library / "bad.png").write_bytes(b"bad")
    assert main(words(library, out)) == 2
    assert "bad.png: not an image that can be read" in capsys.readouterr().err
    assert main(words(library, out, "--skip-bad", "--stride", "32")) == 0
    streams = capsys.readouterr()
    assert "20 tiles of 32 x 32; files: 0 new, 0 changed, 5 unchanged, 1 deleted, 1 left out" in streams.out
    assert "left out: " in streams.err
    assert len(read_index(out).tiles) == 20


def test_the_tile_of_a_prepared_folder_is_its_own(library, tmp_path, capsys):
    raw = ["--source", str(library), "--out", str(tmp_path / "data"), "--tile", "64", "--val", "0", "--test", "0"]
    assert main(["prepare", *raw, "--workers", "1"]) == 0
    assert main(["index", "--library", str(tmp_path / "data"), "--out", str(tmp_path / "lib.index")]) == 0
    assert "6 tiles of 64 x 64" in capsys.readouterr().out


def test_a_geotiff_is_cut_by_windows(tmp_path, capsys):
    assert main(words(ROOT / "samples" / "neon", tmp_path / "a.index", "--tile", "256")) == 0
    scene = tmp_path / "scene"
    scene.mkdir()
    (scene / "OSBS_029.tif").write_bytes((ROOT / "samples" / "OSBS_029.tif").read_bytes())
    assert main(words(scene, tmp_path / "b.index", "--tile", "128")) == 0
    assert "9 tiles of 128 x 128; files: 1 new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--workers", "0"], "--workers: found 0"),
        (["--tile", "30"], "--tile: found 30"),
        (["--stride", "0"], "--stride: found 0"),
        (["--weights", "absent.safetensors"], "absent.safetensors: there is no such file"),
        (["--device", "cuda:99"], "found cuda:99"),
        (["--library", "absent"], "--library: absent is not a folder"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(library, tmp_path, capsys, more, text):
    assert main(words(library, tmp_path / "lib.index", *more)) == 2
    message = capsys.readouterr().err
    assert message.startswith("ttrd3: error: ")
    assert text in message
    assert not (tmp_path / "lib.index").exists()


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit) as end:
        main(["index", "--help"])
    assert end.value.code == 0
    flags = set(re.findall(r"^  --([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert flags == {"library", "out", "tile", "stride", "weights", "device", "skip-bad", "workers"}
