import numpy as np
import pytest
import rasterio
from builders import SAMPLE, picture, save, write_tiff
from rasters import write_raster

from ttrd3.data.images import read_rgb
from ttrd3.data.windows import read_windows, size_of, whole_windows
from ttrd3.errors import DataError

BOXES = [(0, 0, 32, 32), (64, 32, 96, 64), (100, 5, 164, 69), (136, 168, 200, 232)]


def geotiff(path, image, **layout):
    options = {"width": image.shape[1], "height": image.shape[0], "count": image.shape[2], "dtype": image.dtype}
    options["transform"] = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 4_000_000)
    with rasterio.open(path, "w", driver="GTiff", **(options | layout)) as file:
        file.write(image.transpose(2, 0, 1))
    return path


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"compress": "deflate", "interleave": "pixel"},
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "lzw", "interleave": "band"},
    ],
    ids=["strips", "deflate", "tiled"],
)
def test_windows_of_a_geotiff_are_its_pixels(tmp_path, layout):
    scene = picture(0, 232, 200)
    path = geotiff(tmp_path / "scene 1 größer.tif", scene, **layout)
    assert size_of(path) == (200, 232)
    for box, found in zip(BOXES, read_windows(path, BOXES), strict=True):
        left, top, right, bottom = box
        np.testing.assert_array_equal(found, scene[top:bottom, left:right])


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.TIFF"])
def test_other_formats_give_the_same(tmp_path, name):
    image = picture(1, 232, 200)
    path = save(tmp_path / name, image, **({"lossless": True} if name == "a.webp" else {}))
    (found,) = read_windows(path, BOXES[2:3])
    assert size_of(path) == (200, 232)
    np.testing.assert_array_equal(found, image[5:69, 100:164])


def test_the_embedded_geotiff():
    path = SAMPLE / "OSBS_029.tif"
    (found,) = read_windows(path, [(100, 50, 356, 306)])
    np.testing.assert_array_equal(found, read_rgb(path)[50:306, 100:356])


@pytest.mark.parametrize("kind", ["nodata", "mask"])
def test_windows_with_holes_are_not_whole(tmp_path, kind):
    image, there = np.maximum(picture(0, 64, 96), 1), np.ones((64, 96), bool)
    there[20:50, 40:60] = False
    image[~there] = 0
    image[5, 5] = 0  # black: 0 is a colour too
    profile, mask = ({"nodata": 0}, None) if kind == "nodata" else ({}, there)
    path = write_raster(tmp_path / "holes.tif", image, mask, **profile)
    boxes = [(0, 0, 32, 32), (32, 0, 64, 32), (64, 0, 96, 32), (0, 32, 64, 64), (64, 32, 96, 64)]
    assert whole_windows(path, boxes) == [boxes[0], boxes[2], boxes[4]]
    with pytest.raises(DataError, match=r"expected a window .* to fit in"):
        whole_windows(path, [(80, 0, 112, 32)])


def test_pictures_and_tiffs_that_declare_nothing_are_whole(tmp_path):
    black = np.zeros((64, 64, 3), np.uint8)
    for path in (save(tmp_path / "black.png", black), geotiff(tmp_path / "black.tif", black)):
        assert whole_windows(path, BOXES[:1]) == BOXES[:1]


def test_what_is_not_8_bit_rgb_is_refused_by_name(tmp_path):
    four = write_tiff(tmp_path / "four.tif", picture(0)[..., [0, 1, 2, 0]])
    deep = write_tiff(tmp_path / "deep.tif", picture(0).astype(np.uint16))
    for path, found in ((four, "4 bands of uint8"), (deep, "3 bands of uint16")):
        with pytest.raises(DataError, match=rf"{path.name}: found {found}, expected 8-bit RGB.*--skip-bad"):
            size_of(path)


def test_damaged_missing_and_foreign_files_are_told_by_name(tmp_path):
    path = geotiff(tmp_path / "cut.tif", picture(0, 232, 200))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(DataError, match=r"cut\.tif: truncated, damaged or no TIFF"):
        list(read_windows(path, BOXES))
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(DataError, match=r"text\.tif: truncated, damaged or no TIFF"):
        size_of(tmp_path / "text.tif")
    with pytest.raises(DataError, match=r"gone\.tif: no such file"):
        size_of(tmp_path / "gone.tif")


@pytest.mark.parametrize("name", ["small.png", "small.tif"])
def test_a_window_outside_is_refused(tmp_path, name):
    path = save(tmp_path / name, picture(0, 64, 64))
    with pytest.raises(DataError, match=r"found 64 x 64 pixels, expected a window .* run `ttrd3 index` again"):
        list(read_windows(path, [(32, 40, 64, 72)]))
