"""Inputs, references and outputs that `ttrd3 upscale` cannot use: one message each, the others are done."""

import numpy as np
import pytest
import rasterio
from bad_input.test_bad_output import mount, mounted  # noqa: F401 - a fixture
from data.builders import claim_rows, picture, save, write_png16
from PIL import Image

from ttrd3.__main__ import main


def tiff(path, pixels: np.ndarray, **profile):
    """(bands, h, w) in UTM 33N."""
    options = {
        "driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2],
        "dtype": pixels.dtype.name, "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 54e5),
    }  # fmt: skip
    with rasterio.open(path, "w", **(options | profile)) as out:
        out.write(pixels)


def rgb(height: int = 16, width: int = 16) -> np.ndarray:
    return picture(0, height, width).transpose(2, 0, 1)


def cut_short(path, share: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def cut_tiff(path):
    tiff(path, rgb(256, 256))
    cut_short(path, 0.5)


def cut_png(path):
    save(path, picture(0, 64, 64))
    cut_short(path, 0.7)


def claims_more(path):
    """A header of 40,000 x 40,000 pixels with the data of 16 rows."""
    tiff(path, rgb(16, 40_000), SPARSE_OK=True)
    content = bytearray(path.read_bytes())
    at = content.index(np.array([257, 3, 1, 0, 16], "<u2").astype("<u2").tobytes()[:4])  # tag ImageLength, SHORT
    content[at + 8 : at + 10] = (40_000).to_bytes(2, "little")
    path.write_bytes(content)


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path)


def claims_more_rows(path):
    """A PNG of 64 rows whose header says 9000."""
    claim_rows(save(path, picture(0, 64, 64)), 9000)


def one_block(side: int, bands: int, **profile):
    """A TIFF of a few bytes that GDAL would decode as a whole."""

    def write(path):
        options = {"count": bands, "height": side, "width": side, "dtype": "uint8", "tiled": True}
        options |= {"blockxsize": side, "blockysize": side, "compress": "DEFLATE"}
        with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, **options, **profile):
            pass

    return write


def transparent(path):
    save(path, np.dstack([picture(0, 16, 16), np.full((16, 16), 90, np.uint8)]))


def with_palette(path):
    tiff(path, rgb()[:1], photometric="PALETTE")
    with rasterio.open(path, "r+") as out:
        out.write_colormap(1, {value: (value, 0, 0) for value in range(256)})


CASES = {
    "missing.png": (lambda path: None, "no such file"),
    "missing.tif": (lambda path: None, "no such file. Check the path"),
    "empty.png": (lambda path: path.write_bytes(b""), "the file is empty"),
    "empty.tif": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text.png": (lambda path: path.write_text("no image"), "not an image that can be read"),
    "text.tif": (lambda path: path.write_text("no image"), "is no TIFF, truncated or damaged"),
    "cut.png": (cut_png, "truncated, damaged"),
    "cut.tif": (cut_tiff, "is no TIFF, truncated or damaged"),
    "lying.tif": (claims_more, "is no TIFF, truncated or damaged"),
    "lying.png": (claims_more_rows, "its header promises more rows than the file holds"),
    "bomb.png": (bomb, "too large to be read at once"),
    "bomb.tif": (one_block(33_008, 3, interleave="band"), "its blocks of 33008 x 33008 pixels take 1.1 GB each"),
    "pixels.tif": (one_block(20_000, 3, interleave="pixel"), "its blocks of 20000 x 20000 pixels take 1.2 GB each"),
    "transparent.png": (transparent, "found transparent pixels, expected 8-bit RGB"),
    "cmyk.jpg": (lambda path: Image.new("CMYK", (16, 16)).save(path), "found CMYK, expected 8-bit RGB"),
    "deep.png": (lambda path: write_png16(path, np.full((16, 16, 3), 9, np.uint16)), "found 16-bit RGB"),
    "nodata.tif": (lambda path: tiff(path, np.zeros((3, 16, 16), np.uint8), nodata=0), "holds no valid pixel"),
    "nan.tif": (lambda path: tiff(path, np.full((3, 16, 16), np.nan, np.float32)), "holds no valid pixel"),
    "grey.tif": (lambda path: tiff(path, rgb()[:1]), "found 1 band that are not marked as colours"),
    "five.tif": (
        lambda path: tiff(path, np.concatenate([rgb(), rgb()[:2]]), photometric="MINISBLACK"),
        "choose red, green and blue: --bands R,G,B",
    ),
    "palette.tif": (with_palette, "found a palette, expected RGB"),
    "complex.tif": (lambda path: tiff(path, rgb().astype(np.complex64)), "holds complex64 values, expected one of"),
    "data.gif": (lambda path: save(path, picture(0, 16, 16)), "is no PNG, JPEG, WebP or TIFF by its suffix"),
    "wide.webp": (lambda path: save(path, picture(0, 1, 4200)), "more than WEBP can hold (16383 a side)"),
}


@pytest.fixture
def batch(trained, tmp_path, capsys):
    """`batch(bad file, word, ...)` upscales it between two good files, which are done; returns the message."""
    good = [save(tmp_path / "good" / f"{name}.png", picture(n, 16, 16)) for n, name in enumerate("ab")]

    def run(bad, *words) -> str:
        out = tmp_path / "out"
        command = ["upscale", good[0], bad, good[1], "--out", out, "--weights", trained / "weights.safetensors", *words]
        code = main(list(map(str, command)))
        err = capsys.readouterr().err
        assert code == 11, err
        assert err.count("ttrd3: error: ") == 1
        assert "1 of 3 inputs failed" in err
        assert "Traceback" not in err
        assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
        return err.partition("ttrd3: error: ")[2]

    return run


@pytest.mark.parametrize("name", CASES)
def test_inputs(batch, tmp_path, name):
    write, text = CASES[name]
    path = tmp_path / "bad" / name
    path.parent.mkdir()
    write(path)
    message = batch(path)
    assert message.startswith(str(path)) or name == "wide.webp"
    assert text in message


def test_options_that_do_not_fit_an_input(batch, tmp_path):
    path = tmp_path / "three.tif"
    tiff(path, rgb())
    assert "a TIFF becomes a TIFF, found --format png" in batch(path, "--format", "png")


REFERENCES = {
    "missing.png": (lambda path: None, "no such reference"),
    "missing.index": (lambda path: None, "no such reference"),
    "nothing.png": (lambda path: path.write_bytes(b""), "the file is empty"),
    "nothing.tif": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text.png": (lambda path: path.write_text("no image"), "not an image that can be read"),
    "cut.png": (cut_png, "truncated, damaged"),
    "cut.tif": (cut_tiff, "is no TIFF, truncated or damaged"),
    "lying.png": (claims_more_rows, "its header promises more rows than the file holds"),
    "bomb.png": (bomb, "too large to be read at once"),
    "grey.tif": (lambda path: tiff(path, rgb(64, 64)[:1]), "found 1 band that are not marked as colours"),
    "blank.png": (lambda path: save(path, np.full((64, 64, 3), 7, np.uint8)), "the reference is blank"),
    "blank.tif": (lambda path: tiff(path, np.zeros((3, 64, 64), np.uint8)), "the reference is blank"),
    "empty.tif": (lambda path: tiff(path, np.zeros((3, 64, 64), np.uint8), nodata=0), "holds no valid pixel"),
    "small.png": (lambda path: save(path, picture(0, 64, 4)), "a reference of 4 x 64 pixels, expected at least"),
    "elsewhere.tif": (
        lambda path: tiff(path, rgb(64, 64), transform=rasterio.Affine(10, 0, 7e5, 0, -10, 54e5)),
        "does not overlap it",
    ),
    "rotated.tif": (
        lambda path: tiff(path, rgb(64, 64), transform=rasterio.Affine(8, 6, 7e5, 6, -8, 54e5)),
        "does not overlap it",
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references(trained, tmp_path, capsys, name):
    write, text = REFERENCES[name]
    reference = tmp_path / name
    write(reference)
    scene = tmp_path / "scene.tif"
    tiff(scene, rgb())
    words = ["upscale", scene, "--out", tmp_path / "out", "--weights", trained / "weights.safetensors"]
    assert main([*map(str, words), "--reference", str(reference)]) == 11
    err = capsys.readouterr().err
    assert err.count("ttrd3: error: ") == 1
    assert str(reference) in err
    assert text in err
    assert not list((tmp_path / "out").iterdir())


def test_outputs_that_would_hurt(trained, tmp_path, capsys):
    source = save(tmp_path / "a.png", picture(0, 16, 16))
    twin = save(tmp_path / "other" / "a.png", picture(1, 16, 16))
    before = source.read_bytes()
    weights = ["--weights", str(trained / "weights.safetensors")]
    assert main(["upscale", str(source), "--out", str(tmp_path), *weights]) == 11
    assert f"{source}: the result would take the input's place" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert main(["upscale", str(source), str(twin), "--out", str(tmp_path / "out"), *weights]) == 11
    assert f"{twin}: its result would be {tmp_path / 'out' / 'a.png'}, as that of {source}" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").exists()


def test_standard_deviations_that_would_hurt(trained, tmp_path, capsys):
    """NAME_std.tif takes the place neither of another input's result nor of a file that somebody has."""
    sources = [save(tmp_path / f"{name}.tif", picture(0, 16, 16)) for name in ("a", "a_std")]
    words = ["--weights", str(trained / "weights.safetensors"), "--samples", "2", "--out", str(tmp_path / "out")]
    assert main(["upscale", *map(str, sources), *words]) == 11
    std = tmp_path / "out" / "a_std.tif"
    assert f"{sources[1]}: its result would be {std}, as that of {sources[0]}. Rename one." in capsys.readouterr().err
    assert main(["upscale", str(sources[0]), *words]) == 0
    assert "is done already" in capsys.readouterr().err
    tiff(std, rgb())
    before = std.read_bytes()
    (tmp_path / "out" / "a.tif").unlink()
    assert main(["upscale", str(sources[0]), *words]) == 11
    assert f"{std}: is there already and was not made by `ttrd3 upscale`" in capsys.readouterr().err
    assert std.read_bytes() == before
    std.unlink()
    assert main(["upscale", str(sources[0]), *words]) == 0
    std.unlink()
    assert main(["upscale", str(sources[0]), *words]) == 0  # half of the results is not all of them
    assert std.exists()


def test_what_nothing_can_begin_with(refused, trained, tmp_path):
    source = save(tmp_path / "a.png", picture(0, 16, 16))
    words = ["upscale", source, "--out", tmp_path / "out", "--weights", trained / "weights.safetensors"]
    assert "steps: found 5000, expected 1 to 1000" in refused(*words, "--steps", 5000)
    assert "--samples: found 0" in refused(*words, "--samples", 0)
    assert "precision: found tf32" in refused(*words, "--precision", "tf32", "--device", "cpu")
    (tmp_path / "empty").mkdir()
    assert "holds no PNG, JPEG, WebP or TIFF" in refused("upscale", tmp_path / "empty", *words[2:])
    assert "there is no such file" in refused(*words[:-1], tmp_path / "none.safetensors")
    assert "--out: " in refused("upscale", source, "--out", source / "below", *words[4:])


def test_exit_codes_count_failures(trained, tmp_path, capsys):
    weights = ["--out", str(tmp_path / "out"), "--weights", str(trained / "weights.safetensors")]
    for failures in (3, 99, 120):
        missing = [str(tmp_path / f"{number}.png") for number in range(failures)]
        assert main(["upscale", *missing, *weights]) == 10 + min(failures, 100)
        assert f"{failures} of {failures} inputs failed" in capsys.readouterr().err


def test_a_disk_too_small_for_a_scene(mounted, trained, tmp_path):  # noqa: F811
    scene = tmp_path / "scene.tif"
    tiff(scene, rgb(400, 400))
    words = [
        "upscale",
        scene,
        "--out",
        mounted / "out",
        "--weights",
        trained / "weights.safetensors",
        "--device",
        "cpu",
    ]
    done = mount(mounted, "size=2m", *words)
    assert done.returncode == 11, done.stderr
    assert done.stderr.count("ttrd3: error: ") == 1
    assert "free, but upscaling to " in done.stderr
    assert ".partial" not in done.stdout


FILL = 'until [ -s "$1/out/.scene.tif.partial/journal-0.txt" ]; do sleep 0.02; done; dd if=/dev/zero of="$1/fill" bs=1k'


def test_a_disk_that_fills_up_while_a_scene_is_made(mounted, trained, tmp_path):  # noqa: F811
    """What is done is kept, nothing shows under the result's name, another input is not held back."""
    scene, picture_out = tmp_path / "scene.tif", save(tmp_path / "z.png", picture(0, 16, 16))
    tiff(scene, rgb(100, 100))
    words = ["--out", mounted / "out", "--weights", trained / "weights.safetensors", "--tile", 64, "--overlap", 0]
    done = mount(mounted, "size=8m", "upscale", scene, picture_out, *words, "--device", "cpu", during=FILL)
    assert done.returncode in (11, 12), done.stderr
    assert "Traceback" not in done.stderr
    assert "(No space left on device)" in done.stderr
    assert done.stderr.count("ttrd3: error: ") == done.returncode - 10
    assert ".scene.tif.partial" in done.stdout  # the folder of finished tiles
    assert "inputs failed" in done.stderr
