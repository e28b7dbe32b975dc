"""What is no data in a GeoTIFF: GDAL tells one of nodata value, mask and alpha band alone, and files have two."""

import numpy as np
import pytest
import rasterio
from data.builders import picture

from ttrd3.inference.raster import RasterScene, open_raster


@pytest.fixture
def valid(scene):
    """`valid(pixels, name=value, ...)` -> bool (h, w): what a scene of these pixels takes as valid."""

    def make(pixels, **how):
        path = scene(pixels, **how)
        with open_raster(path) as dataset:
            found = RasterScene(path, dataset, None, None)
            assert found.has_gaps
            window = rasterio.windows.Window(0, 0, found.width, found.height)
            return found.valid(window)

    return make


def test_an_alpha_band_counts_beside_a_nodata_value(valid):
    pixels = np.concatenate([picture(0, 24, 40).transpose(2, 0, 1), np.full((1, 24, 40), 255, np.uint8)])
    pixels[:3] = pixels[:3].clip(1, 254)
    expected = np.ones((24, 40), bool)
    pixels[3, 4:8, 10:20], expected[4:8, 10:20] = 0, False
    pixels[:3, 12:16, 30:], expected[12:16, 30:] = 7, False
    np.testing.assert_array_equal(valid(pixels, nodata=7, photometric="RGB", alpha="YES"), expected)


def test_a_nodata_value_counts_beside_a_mask(valid):
    pixels = picture(0, 24, 40).transpose(2, 0, 1).clip(8, 254)
    expected = np.ones((24, 40), bool)
    expected[4:8, 10:20] = False
    mask = expected.copy()
    pixels[:, 12:16, 30:], expected[12:16, 30:] = 7, False
    pixels[0, 20, 20] = 7  # in one band alone: a colour
    np.testing.assert_array_equal(valid(pixels, nodata=7, then=lambda out: out.write_mask(mask)), expected)
