import numpy as np
import pytest
import rasterio
from builders import picture, write_png16
from rasterio.enums import ColorInterp
from rasters import write_raster

from ttrd3.data.rasters import read_bands, read_header
from ttrd3.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
WHOLE = [(0, 0, 40, 40)]


def scene(bands=4, dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).integers(1, 10_000, (40, 40, bands)).astype(dtype)


def read(path, bands=(1, 2, 3)):
    ((values, there),) = read_bands(path, bands, WHOLE)
    return values, there


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"}])
@pytest.mark.parametrize("transform", [None, rasterio.Affine(2, 1, 5e5, 1, -2, 4e6)], ids=["no place", "rotated"])
def test_bands_and_windows_are_those_of_the_file(tmp_path, layout, transform):
    image = scene()
    path = write_raster(tmp_path / "a.tif", image, **layout, **({"transform": transform} if transform else {}))
    header = read_header(path)
    assert (header.width, header.height, header.dtypes, header.masked) == (40, 40, ("uint16",) * 4, False)
    boxes = [(0, 0, 8, 8), (9, 3, 40, 20)]
    for (left, top, right, bottom), (values, there) in zip(boxes, read_bands(path, (4, 3, 2), boxes), strict=True):
        np.testing.assert_array_equal(values, image[top:bottom, left:right][..., [3, 2, 1]])
        assert there.all()


def test_a_nodata_value_that_is_no_colour_counts_in_any_band(tmp_path):
    image = scene(dtype=np.int16)
    image[3, 4, 1] = image[10:12, 20:30, 0] = -9999
    path = write_raster(tmp_path / "a.tif", image, nodata=-9999)
    np.testing.assert_array_equal(read(path)[1], (image[..., :3] != -9999).all(2))
    assert read(path, (3, 4, 4))[1].all()  # only of the bands that are used
    assert read_header(path).masked


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint8, 0), (np.uint8, 255), (np.uint16, 0), (np.uint16, 65535)])
def test_black_and_saturated_pixels_are_data_unless_they_form_a_region(tmp_path, dtype, nodata):
    image = np.random.default_rng(0).integers(1, 250, (40, 40, 3)).astype(dtype)
    image[20, 20] = image[30:34, 30:34] = nodata  # scattered
    image[10:30, 5, :2] = nodata  # not in all bands
    image[:8, :8] = nodata
    expected = np.ones((40, 40), bool)
    expected[:8, :8] = False
    np.testing.assert_array_equal(read(write_raster(tmp_path / "a.tif", image, nodata=nodata))[1], expected)


def test_a_region_is_as_large_as_it_is_in_the_image_not_in_the_window(tmp_path):
    """Tiles at the edge of a swath: a corner of what is empty beyond them is no black roof."""
    image = np.random.default_rng(0).integers(1, 250, (200, 200, 3)).astype(np.uint16)
    image[60:, 60:] = 0  # a large region
    image[30:36, 30:36] = 0  # 36 pixels
    image[:, 199] = 0  # a line of 60 more pixels, touching the region
    path = write_raster(tmp_path / "a.tif", image, nodata=0)
    whole = read(path)[1]  # of 40 x 40
    assert whole.all()
    boxes = [
        (0, 0, 200, 200),
        (0, 0, 66, 66),
        (20, 20, 61, 61),
        (100, 0, 200, 60),
        (150, 150, 200, 200),
        (0, 0, 60, 60),
    ]
    expected = np.ones((200, 200), bool)
    expected[60:, 60:] = expected[:, 199] = False
    for (left, top, right, bottom), (_, there) in zip(boxes, read_bands(path, (1, 2, 3), boxes), strict=True):
        np.testing.assert_array_equal(there, expected[top:bottom, left:right])


def test_a_mask_or_alpha_band_counts_beside_a_nodata_value(tmp_path):
    """Of two declarations GDAL's own masks tell one."""
    image = np.random.default_rng(0).integers(1, 250, (40, 40, 3), dtype=np.uint8)
    image[:8, :8] = 0
    mask = np.ones((40, 40), bool)
    mask[20:, 30:] = False
    expected = mask.copy()
    expected[:8, :8] = False
    masked = write_raster(tmp_path / "mask.tif", image, mask, nodata=0)
    np.testing.assert_array_equal(read(masked)[1], expected)
    rgba = np.dstack([image, mask.astype(np.uint8) * 255])
    transparent = write_raster(tmp_path / "alpha.tif", rgba, nodata=0, photometric="RGB", alpha="yes")
    np.testing.assert_array_equal(read(transparent)[1], expected)


def test_nodata_values_of_the_whole_file(tmp_path):
    """GDAL's item NODATA_VALUES: masked as GDAL masks it, where all bands have theirs."""
    image = np.random.default_rng(0).integers(1, 250, (40, 40, 3), dtype=np.uint8)
    image[:8, :8] = 0
    image[20, 20, 0] = 0
    path = write_raster(tmp_path / "a.tif", image)
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="0 0 0")
    expected = np.ones((40, 40), bool)
    expected[:8, :8] = False
    np.testing.assert_array_equal(read(path)[1], expected)


def test_nan_counts_whether_declared_or_not(tmp_path):
    image = scene(3, np.float32)
    image[5, 6, 2], image[7, 8, 0] = np.nan, np.inf
    expected = np.isfinite(image).all(2)
    for options in ({}, {"nodata": np.nan}, {"nodata": -1.0}):
        np.testing.assert_array_equal(read(write_raster(tmp_path / "a.tif", image, **options))[1], expected)


def test_masks_and_alpha_bands(tmp_path):
    mask = np.random.default_rng(1).random((40, 40)) > 0.2
    inside = write_raster(tmp_path / "mask.tif", scene(3), mask)
    np.testing.assert_array_equal(read(inside)[1], mask)
    rgba = np.dstack([picture(0, 40, 40), mask * np.uint8(255)])
    path = write_raster(tmp_path / "alpha.tif", rgba, photometric="RGB", alpha="yes")
    with rasterio.open(path) as file:
        assert file.colorinterp[3] is ColorInterp.alpha
    assert read_header(path).colours == (1, 2, 3)
    np.testing.assert_array_equal(read(path)[1], mask)


def test_what_is_no_tiff_is_told_by_name(tmp_path):
    cut = write_raster(tmp_path / "cut.tif", scene())
    cut.write_bytes(cut.read_bytes()[:3000])
    png = write_png16(tmp_path / "png.tif", scene(3))
    for path, text in ((cut, "truncated, damaged"), (png, "no TIFF"), (tmp_path / "gone.tif", "no such file")):
        with pytest.raises(DataError, match=rf"{path.name}: .*{text}.*--skip-bad"):
            read(path)
