"""Scenes as references: where they hold no data, and which of their bands are red, green and blue."""

import contextlib

import numpy as np
import pytest
import rasterio
from data.builders import picture, save
from inference.conftest import bands_of

from ttrd3.inference.georeference import GeoReference
from ttrd3.inference.raster import RasterScene, open_raster
from ttrd3.inference.references import View

FINE = rasterio.Affine(2.5, 0, 500000.5, 0, -2.5, 5400000.25)  # the place of `scene`, four times as fine


def rgb(seed: int, side: int) -> np.ndarray:
    """uint8 (3, side, side) without a zero."""
    return np.maximum(picture(seed, side, side), 1).transpose(2, 0, 1)


def windows(source, reference) -> list[np.ndarray | None]:
    """The references of the four tiles of a scene of 32 x 32 pixels, in tiles of 16."""
    with contextlib.ExitStack() as stack:
        scene, other = (RasterScene(p, stack.enter_context(open_raster(p)), None, None) for p in (source, reference))
        found = GeoReference(other, scene, stack)
        views = [View(y, x, 16, 16, (32, 32), np.zeros((64, 64, 3), np.uint8)) for y in (0, 16) for x in (0, 16)]
        excerpts = [found.window(view) for view in views]
        return [None if excerpt is None else excerpt.pixels() for excerpt in excerpts]


@pytest.mark.parametrize("kind", ["nodata", "alpha", "internal mask", "mask beside it", "mask and nodata"])
def test_a_reference_without_data_at_a_tile_is_none(scene, kind):
    pixels, there = rgb(1, 128), np.zeros((128, 128), bool)
    there[:74, :64] = True  # the first tile, and 10 of 64 rows of the one below
    black, profile = np.where(there, pixels, np.uint8(0)), {"transform": FINE}
    if kind == "alpha":
        black = np.concatenate([black, np.where(there, 255, 0).astype(np.uint8)[None]])
        profile |= {"photometric": "RGB", "alpha": "YES"}
    if "nodata" in kind:
        profile["nodata"] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind != "mask beside it"):
        then = (lambda out: out.write_mask(there)) if "mask" in kind else None
        reference = scene(black, "reference.tif", then=then, **profile)
    source = scene(rgb(2, 32), "lr.tif")
    first, *others = windows(source, reference)
    np.testing.assert_array_equal(first, pixels[:, :64, :64].transpose(1, 2, 0))
    assert others == [None, None, None]


def test_a_reference_ends_where_its_file_ends(scene):
    pixels = rgb(1, 64)
    source, reference = scene(rgb(2, 32), "lr.tif"), scene(pixels, "reference.tif", transform=FINE)
    first, *others = windows(source, reference)
    np.testing.assert_array_equal(first, pixels.transpose(1, 2, 0))
    assert others == [None, None, None]


@pytest.fixture
def many(scene):
    """A scene of five bands that says of none what it shows."""
    return scene(np.concatenate([rgb(2, 16), rgb(3, 16)[:2]]), "lr.tif", photometric="MINISBLACK")


def test_bands_are_also_those_of_a_reference_of_many(upscale, many, scene, tmp_path):
    sharp = rgb(4, 64)
    references = {
        "many": (np.stack([sharp[2], rgb(5, 64)[0], sharp[0], sharp[1]]), {"photometric": "MINISBLACK"}),
        "three": (sharp, {"photometric": "MINISBLACK"}),
        # What a file says of itself is true of it whatever the image's bands are.
        "marked": (
            np.concatenate([sharp, np.full((1, 64, 64), 255, np.uint8)]),
            {"photometric": "RGB", "alpha": "YES"},
        ),
    }
    found = {}
    for name, (pixels, profile) in references.items():
        reference = scene(pixels, f"{name}.tif", transform=FINE, **profile)
        code, err = upscale(many, "--bands", "3,4,1", "--reference", reference, out=tmp_path / name)
        assert code == 0, err
        found[name] = bands_of(tmp_path / name / "lr.tif")
    np.testing.assert_array_equal(found["many"], found["three"])
    np.testing.assert_array_equal(found["marked"], found["three"])
    assert upscale(many, "--bands", "3,4,1", out=tmp_path / "without")[0] == 0
    assert (bands_of(tmp_path / "without" / "lr.tif") != found["three"]).mean() > 0.1


def test_one_band_is_a_reference_for_one_band(upscale, scene):
    reference = scene(rgb(4, 64)[:1], "reference.tif", transform=FINE)
    assert upscale(scene(rgb(2, 16)[:1], "lr.tif"), "--bands", "1,1,1", "--reference", reference)[0] == 0


def test_a_reference_of_unclear_bands_is_named(upscale, many, scene, tmp_path):
    reference = scene(np.concatenate([rgb(4, 64)] * 2)[:4], "reference.tif", transform=FINE, photometric="MINISBLACK")
    code, err = upscale(many, "--bands", "5,2,1", "--reference", reference)
    assert code == 11
    assert f"{reference}: the reference: found 4 bands that are not marked as colours, expected red, green and" in err
    assert "and it lacks some of --bands 5,2,1. Give --bands R,G,B that both files have, or make the reference" in err
    code, err = upscale(save(tmp_path / "lr.png", picture(2, 16, 16)), "--reference", reference)
    assert code == 11
    assert f"{reference}: the reference: found 4 bands" in err
    assert "--bands was not given" in err
