"""The embedded GeoTIFF, read as an ordinary 8-bit RGB image."""

import numpy as np
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.data.images import read_rgb
from ttrd3.environment import ROOT

GEOTIFF = ROOT / "samples" / "OSBS_029.tif"


def test_it_is_rgb_of_8_bits():
    image = read_rgb(GEOTIFF)
    assert image.shape == (400, 400, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10  # a picture, not a blank


def test_a_folder_of_geotiffs_is_prepared(tmp_path, capsys):
    source = tmp_path / "scenes"
    source.mkdir()
    (source / GEOTIFF.name).write_bytes(GEOTIFF.read_bytes())
    words = ["prepare", "--source", source, "--out", tmp_path / "out", "--tile", "128", "--val", "0", "--test", "0"]
    assert main([*map(str, words), "--workers", "1"]) == 0
    tiles = sorted((tmp_path / "out" / "train" / "hr").rglob("*.png"))
    assert len(tiles) == 9  # 3 x 3 of 128 in 400
    cut = np.asarray(Image.open(tiles[0]))
    np.testing.assert_array_equal(cut, read_rgb(GEOTIFF)[:128, :128])
