import re
import struct
import zlib

import numpy as np
import pytest
from builders import picture, save, write_png16, write_tiff
from PIL import Image

from ttrd3.data.images import read_rgb, read_size, write_png
from ttrd3.errors import DataError, UserError

GREY = picture(1)[:, :, 0]


def rgba(alpha: int) -> np.ndarray:
    return np.dstack([picture(2), np.full((32, 32), alpha, np.uint8)])


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_reads_what_was_written(tmp_path, suffix):
    image = picture(0, 24, 40)
    path = save(tmp_path / f"a.{suffix}", image, **({"lossless": True} if suffix == "webp" else {}))
    found = read_rgb(path)
    assert found.dtype == np.uint8
    assert read_size(path) == (40, 24)
    if suffix == "jpg":
        assert np.abs(found.astype(int) - image).mean() < 20
    else:
        np.testing.assert_array_equal(found, image)


def test_write_png_round_trip_and_no_rest(tmp_path):
    write_png(tmp_path / "deep" / "a.png", picture(0))
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep" / "a.png"), picture(0))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_write_png_into_a_file_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", picture(0))


def make_palette(path):
    Image.fromarray(picture(0)).quantize(16).save(path)


def make_cmyk(path):
    Image.fromarray(picture(0)).convert("CMYK").save(path, "JPEG")


def make_truncated(path):
    save(path, picture(0, 64, 64))
    path.write_bytes(path.read_bytes()[:-2000])


def make_animation(path):
    frames = [Image.fromarray(picture(seed)) for seed in (0, 1)]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def make_transparent_colour(path):
    Image.fromarray(picture(0)).save(path, "PNG", transparency=(1, 2, 3))


def make_bomb(path):
    """A PNG of 900 million pixels by its header: what counts is that it is refused before they are decoded."""
    write_png16(path, np.zeros((1, 1, 3), np.uint16))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30000, 30000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


CONVERT = "ttrd3 prepare --convert"
BAD = {
    "png16": (lambda path: write_png16(path, np.full((8, 8, 3), 40000, np.uint16)), "16-bit RGB", "Scale its values"),
    "tiff16": (lambda path: write_tiff(path, np.full((8, 8, 3), 40000, np.uint16)), "16-bit RGB", "Scale its values"),
    "grey16": (lambda path: save(path, GREY.astype(np.uint16), format="PNG"), "16-bit grey", "Scale its values"),
    "float": (lambda path: save(path, GREY.astype(np.float32), format="TIFF"), "floating point", "Scale its values"),
    "bands4": (lambda path: write_tiff(path, rgba(255)), "4 bands", "8-bit RGB PNG"),
    "grey": (lambda path: save(path, GREY, format="PNG"), "found grey", CONVERT),
    "rgba": (lambda path: save(path, rgba(255), format="PNG"), "alpha channel", CONVERT),
    "palette": (lambda path: make_palette(path.with_suffix(".png")), "found palette", CONVERT),
    "transparent": (lambda path: make_transparent_colour(path), "transparent colour", CONVERT),
    "cmyk": (make_cmyk, "found CMYK", "Save it as 8-bit RGB PNG"),
    "animation": (make_animation, "animation of 2 frames", "Save it as 8-bit RGB PNG"),
    "truncated": (make_truncated, "truncated", "Fetch it again"),
    "bomb": (make_bomb, "too large", "Cut it into smaller"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty", "Fetch it again"),
    "text": (lambda path: path.write_text("no image"), "not an image", "expected 8-bit RGB"),
    "missing": (lambda path: None, "no such file", "Check the path"),
    "folder": (lambda path: path.mkdir(), "not allowed to be read", "expected a whole image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_unfit_files_are_refused_with_name_finding_and_way_out(tmp_path, kind):
    make, found, way_out = BAD[kind]
    path = tmp_path / "picture.png"
    make(path)
    with pytest.raises(DataError) as error:
        read_rgb(path)
    for text in (str(path), found, way_out):
        assert text in str(error.value)


@pytest.mark.parametrize("kind", ["png16", "grey16", "bands4", "cmyk", "truncated", "animation"])
def test_convert_refuses_what_would_lose_something(tmp_path, kind):
    BAD[kind][0](tmp_path / "picture.png")
    with pytest.raises(DataError):
        read_rgb(tmp_path / "picture.png", convert=True)


def test_convert_is_without_loss(tmp_path):
    save(tmp_path / "grey.png", GREY)
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png", convert=True), np.dstack([GREY] * 3))
    save(tmp_path / "rgba.png", rgba(255))
    np.testing.assert_array_equal(read_rgb(tmp_path / "rgba.png", convert=True), picture(2))
    palette = Image.fromarray(picture(0)).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png", convert=True), np.asarray(palette.convert("RGB")))


def test_convert_refuses_transparency(tmp_path):
    save(tmp_path / "rgba.png", rgba(254))
    with pytest.raises(DataError, match=re.escape("rgba.png: found transparent pixels")):
        read_rgb(tmp_path / "rgba.png", convert=True)


def test_a_whole_jpeg_is_read_and_the_same_one_cut_short_is_not(tmp_path):
    path = save(tmp_path / "a.jpg", picture(0, 64, 64))
    read_rgb(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="truncated"):
        read_rgb(path)
