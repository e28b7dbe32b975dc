"""`ttrd3 upscale` on files: pictures of every kind, folders, references by name, work that is interrupted."""

import json
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import torch
from data.builders import picture, save
from inference.conftest import bands_of
from PIL import Image, ImageCms

from ttrd3 import Upscaler
from ttrd3.__main__ import main
from ttrd3.environment import ROOT
from ttrd3.inference.tiles import Tiler
from ttrd3.inference.weights import SHIPPED

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg", "a.tif"])
def test_a_picture_comes_out_as_what_it_was(upscale, upscaler, tmp_path, lr, name):
    source = save(tmp_path / name, lr)
    given = pixels(source)
    code, err = upscale(source)
    assert code == 0
    assert err == f"{tmp_path / 'out' / name}: done\n"
    found = Image.open(tmp_path / "out" / name)
    assert found.format == Image.open(source).format
    difference = np.abs(np.asarray(found).astype(int) - upscaler().upscale(given))
    assert difference.mean() < 4 if name == "a.jpg" else not difference.any()


def test_other_formats_and_what_a_file_says_of_itself(upscale, tmp_path, lr):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # orientation, maker
    source = save(tmp_path / "a.jpg", lr, exif=exif, icc_profile=PROFILE)
    for form, suffix in (("png", "png"), ("webp", "webp"), ("jpeg", "jpg")):
        assert upscale(source, "--format", form)[0] == 0
        found = Image.open(tmp_path / "out" / f"a.{suffix}")
        assert (found.getexif()[0x0112], found.getexif()[0x010F]) == (6, "a camera")
        assert found.info["icc_profile"] == PROFILE
        assert json.loads(found.getexif()[0x010E])["seed"] == 10
    assert upscale(source, "--format", "tiff", "--samples", 2)[0] == 0
    np.testing.assert_array_equal(bands_of(tmp_path / "out" / "a.tif").shape, (3, 96, 160))
    with rasterio.open(tmp_path / "out" / "a_std.tif") as std:
        assert std.dtypes == ("float32",) * 3
        assert 1 < std.read().mean() < 50  # 8-bit levels


def exif_of(kind: int, value: bytes) -> bytes:
    """EXIF of one entry: an orientation of any type."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, kind, len(value.rstrip(b"\0")) + 1, value, 0)


LONG = Image.Exif()
LONG[0x9286] = b"x" * 70_000  # a comment longer than JPEG can hold

ODD_EXIF = {
    "text.jpg": (exif_of(2, b"6\0\0\0"), "jpeg"),
    "text.png": (exif_of(2, b"6\0\0\0"), "png"),
    "text.webp": (exif_of(2, b"6\0\0\0"), "webp"),
    "junk.png": (b"Exif\0\0no EXIF at all", "png"),
    "long.png": (LONG.tobytes(), "jpeg"),
}


@pytest.mark.parametrize("name", ODD_EXIF)
def test_exif_that_cannot_be_kept_is_told_and_left_out(upscale, tmp_path, name):
    exif, form = ODD_EXIF[name]
    source, other = save(tmp_path / name, picture(0, 16, 16), exif=exif), save(tmp_path / "z.png", picture(1, 16, 16))
    code, err = upscale(source, other, "--format", form)
    assert code == 0
    assert f"{source}: its EXIF is damaged, or more than {form.upper()} can hold (" in err
    assert str(other) not in err.replace(": done", "")
    results = [path for path in (tmp_path / "out").iterdir() if path.stem in ("z", source.stem)]
    assert len(results) == 2
    for path in results:
        found = Image.open(path).getexif()
        assert sorted(found) == [0x010E, 0x0131]  # our own tags
        assert json.loads(found[0x010E])["seed"] == 10
    assert upscale(source, other, "--format", form)[1].count("is done already") == 2


def test_a_profile_of_grey_does_not_go_with_the_result_which_is_rgb(upscale, tmp_path, lr):
    grey_profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    grey = save(tmp_path / "grey.png", lr[:, :, 0], icc_profile=grey_profile)
    colour = save(tmp_path / "colour.png", lr, icc_profile=PROFILE)
    assert Image.open(grey).info["icc_profile"] == grey_profile
    assert upscale(grey, colour)[0] == 0
    assert "icc_profile" not in Image.open(tmp_path / "out" / "grey.png").info
    assert Image.open(tmp_path / "out" / "colour.png").info["icc_profile"] == PROFILE


def test_grey_and_opaque_pictures_become_rgb(upscale, tmp_path, lr):
    grey = save(tmp_path / "grey.png", lr[:, :, 0])
    opaque = save(tmp_path / "opaque.png", np.dstack([lr, np.full(lr.shape[:2], 255, np.uint8)]))
    assert upscale(grey, opaque)[0] == 0
    assert pixels(tmp_path / "out" / "grey.png").shape == pixels(tmp_path / "out" / "opaque.png").shape == (96, 160, 3)


def test_a_folder_and_references_by_name(upscale, upscaler, tmp_path):
    for number, name in enumerate(("a", "b")):
        save(tmp_path / "lr" / f"{name}.png", picture(number, 16, 16))
        save(tmp_path / "ref" / f"{name}.jpg", picture(number + 5, 64, 64))
    (tmp_path / "lr" / "notes.txt").write_text("no image")
    code, err = upscale(tmp_path / "lr", "--reference", tmp_path / "ref")
    assert code == 0
    assert f"--reference {tmp_path / 'ref'}: each input takes the file of its name\n" in err
    for number, name in enumerate(("a", "b")):
        expected = upscaler().upscale(picture(number, 16, 16), Image.open(tmp_path / "ref" / f"{name}.jpg"))
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{name}.png"), expected)


def test_what_is_finished_is_not_redone(upscale, tmp_path, scene):
    sources = [save(tmp_path / "a.png", picture(0, 16, 16)), scene(picture(1, 16, 16).transpose(2, 0, 1))]
    assert upscale(*sources)[0] == 0
    results = [tmp_path / "out" / source.name for source in sources]
    times = [path.stat().st_mtime_ns for path in results]
    code, err = upscale(*sources)
    assert code == 0
    assert err.count("is done already") == 2
    assert [path.stat().st_mtime_ns for path in results] == times
    code, err = upscale(*sources, "--other-bands", "bicubic")  # of the TIFF alone
    assert code == 11
    assert f"{results[0]}: is done already" in err
    assert f"{results[1]}: is there already and was made with other options" in err
    code, err = upscale(*sources, "--seed", 11)
    assert code == 12
    assert err.count("is there already and was made with other options or inputs. Choose another --out, or add") == 2
    assert [path.stat().st_mtime_ns for path in results] == times
    save(results[0], picture(5, 64, 64))  # somebody's own
    assert "was not made by `ttrd3 upscale`" in upscale(sources[0])[1]
    assert upscale(*sources, "--seed", 11, "--overwrite")[0] == 0
    assert all(path.stat().st_mtime_ns > before for path, before in zip(results, times, strict=True))


@pytest.fixture
def interrupted(weights, tmp_path, scene):
    """A scene of 35 tiles whose work was killed after a few of them."""
    source = scene(picture(1, 80, 110).transpose(2, 0, 1))
    command = [sys.executable, "-m", "ttrd3", "upscale", source, "--out", tmp_path / "out", "--weights", weights]
    threads = str(torch.get_num_threads())  # another number adds up in another order
    environment = os.environ | {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": threads}
    process = subprocess.Popen(
        [*map(str, command), "--tile", "80", "--overlap", "16"], env=environment, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "out" / ".scene.tif.partial"
    journal = folder / "journal-0.txt"
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "scene.tif").exists()
    return source, folder


TILES = ("--tile", "80", "--overlap", "16")


def test_an_interrupted_scene_goes_on(upscale, interrupted, tmp_path):
    source, folder = interrupted
    done = (folder / "journal-0.txt").read_text().splitlines()
    with (folder / "journal-0.txt").open("a") as journal:
        journal.write("7 12")  # a line that the end cut off, of a tile that is not there
    number = int(done[0].split()[0])
    with (folder / "tiles.bin").open("r+b") as slots:  # a slot that the disk has lost
        slots.seek(number * 6 * 80 * 80)
        slots.write(b"lost")
    code, err = upscale(source, *TILES)
    assert code == 0
    assert f"goes on with {len(done) - 1} of 35 tiles done" in err
    assert upscale(source, *TILES, out=tmp_path / "anew")[0] == 0
    np.testing.assert_array_equal(bands_of(tmp_path / "out" / "scene.tif"), bands_of(tmp_path / "anew" / "scene.tif"))
    assert not folder.exists()


@pytest.mark.parametrize("words", [("--seed", 3), ("--tile", 160)], ids=str)
def test_other_options_begin_anew(upscale, interrupted, words):
    source, _ = interrupted
    code, err = upscale(source, *TILES, *words)
    assert code == 0
    assert "goes on" not in err


def test_an_interrupted_scene_goes_on_with_the_smaller_tiles_that_memory_forced(upscale, tmp_path, scene, monkeypatch):
    source, asked = scene(picture(1, 80, 110).transpose(2, 0, 1)), ("--tile", "160", "--overlap", "16")
    run, done = Tiler.run, []

    def interrupted(self, numbers, put):
        if self.grid.tile_shape == (40, 40):  # LR pixels: the tile that was asked for
            raise MemoryError

        def few(number, tile):
            put(number, tile)
            done.append(number)
            if len(done) == 6:
                raise KeyboardInterrupt

        run(self, numbers, few)

    with monkeypatch.context() as patch:
        patch.setattr(Tiler, "run", interrupted)
        code, err = upscale(source, *asked)
    assert code == 130
    assert "out of memory: tries again with tiles of 80 x 80 pixels" in err
    code, err = upscale(source, *asked)
    assert code == 0
    assert f"{source}: goes on with tiles of 80 x 80 pixels, as memory ran out before" in err
    assert "goes on with 6 of 35 tiles done" in err
    assert not list((tmp_path / "out").glob(".*"))
    assert upscale(source, *TILES, out=tmp_path / "small")[0] == 0
    np.testing.assert_array_equal(bands_of(tmp_path / "out" / "scene.tif"), bands_of(tmp_path / "small" / "scene.tif"))
    assert "is done already" in upscale(source, *asked)[1]


def test_two_at_the_same_scene(upscale, interrupted):
    source, folder = interrupted
    code = (
        "import sys; from pathlib import Path; from ttrd3.files import Lock; lock = Lock(Path(sys.argv[1])); "
        "lock.take('it'); print('taken', flush=True); sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "codes")}
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "lock")], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "taken\n"
    code, err = upscale(source, *TILES)
    other.communicate("")
    assert code == 11
    assert f"{folder} is in use by process {other.pid}" in err
    assert (folder / "tiles.bin").exists()


def test_a_result_by_another_fidelity_of_the_weights_own_is_not_finished(upscale, make_weights, tmp_path, capsys):
    source = save(tmp_path / "a.png", picture(0, 16, 16))
    assert upscale(source)[0] == 0
    words = ["upscale", str(source), "--out", str(tmp_path / "out"), "--weights"]
    assert main([*words, str(make_weights())]) == 0  # the same weights in another file
    assert "is done already" in capsys.readouterr().err
    assert main([*words, str(make_weights("sampling.fidelity=0.5"))]) == 11
    assert "was made with other options or inputs" in capsys.readouterr().err


def test_weights_that_come_along_are_the_default(tmp_path, lr):
    source = save(tmp_path / "a.png", lr)
    assert main(["upscale", str(source), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    expected = Upscaler.from_file(SHIPPED, "cpu").upscale(lr)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected)
    assert not np.array_equal(expected, Upscaler.from_file(SHIPPED, "cpu", fidelity=1.0).upscale(lr))
