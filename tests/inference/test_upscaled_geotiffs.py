"""GeoTIFFs: place, type, nodata, bands and metadata come out as they went in; references from the same place."""

import json

import numpy as np
import pytest
import rasterio
from data.builders import picture
from inference.conftest import SAMPLE, bands_of
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer
from rasterio.warp import Resampling, calculate_default_transform, reproject

from ttrd3.data.degrade import lr_from_hr, up_from_lr
from ttrd3.inference.consistent import reduction

TRANSFORMS = {
    "north up": rasterio.Affine(10, 0, 500000.5, 0, -10, 5400000.25),
    "rotated": rasterio.Affine(8, 6, 500000.5, 6, -8, 5400000.25),
}


def rgb(seed: int = 0, height: int = 24, width: int = 40) -> np.ndarray:
    """uint8 (3, h, w)."""
    return picture(seed, height, width).transpose(2, 0, 1)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_place_and_metadata(upscale, scene, tmp_path, kind):
    def describe(out):
        out.descriptions = ("R", "G", "B")
        out.update_tags(SENSOR="made up")
        out.units = ("a", "b", "c")
        out.scales, out.offsets = (0.5, 0.5, 0.5), (1, 2, 3)

    source = scene(rgb(), transform=TRANSFORMS[kind], then=describe, photometric="RGB")
    assert upscale(source)[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out, rasterio.open(source) as given:
        assert (out.width, out.height, out.count) == (160, 96, 3)
        assert out.crs == given.crs
        assert out.transform.almost_equals(given.transform @ rasterio.Affine.scale(0.25), 1e-12)
        assert (out.transform @ (160, 96)) == pytest.approx(given.transform @ (40, 24))  # the same outer edge
        assert out.dtypes == given.dtypes
        assert out.colorinterp == given.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert (out.descriptions, out.units) == (("R", "G", "B"), ("a", "b", "c"))
        assert (out.scales, out.offsets) == ((0.5,) * 3, (1, 2, 3))
        assert out.tags()["SENSOR"] == "made up"
        assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert out.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert json.loads(out.tags()["TTRD3"])["seed"] == 10


def test_it_is_the_image_that_the_api_gives(upscale, upscaler, scene, tmp_path):
    image = picture(3, 40, 60)
    source = scene(image.transpose(2, 0, 1))
    assert upscale(source, "--tile", 96, "--overlap", 16)[0] == 0  # 18 tiles, through the folder on the disk
    expected = upscaler(tile=96, overlap=16).upscale(image)
    np.testing.assert_array_equal(bands_of(tmp_path / "out" / "scene.tif").transpose(1, 2, 0), expected)
    assert not list((tmp_path / "out").glob(".*"))


def test_overviews(upscale, scene, tmp_path):
    assert upscale(scene(rgb(0, 16, 132)), "--steps", 1)[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        assert out.overviews(1) == [2]
        assert out.block_shapes[0] == (512, 512)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_types_keep_their_range(upscale, scene, tmp_path, dtype):
    """The 0.1 and 99.9 percentiles are black and white; what lies beyond is carried through by bicubic."""
    values = (rgb().astype(np.float64) * 10 + 300).astype(dtype)
    values[0, 11, 20] = 30000
    code, err = upscale(scene(values))
    assert code == 0
    assert "are taken as black to white (--range)" in err
    found = bands_of(tmp_path / "out" / "scene.tif")
    assert found.dtype == dtype
    up = np.stack([
        np.asarray(Image.fromarray(band.astype(np.float32)).resize((160, 96), Image.Resampling.BICUBIC))
        for band in values
    ])  # fmt: skip
    assert found.max() > 20000
    assert np.abs(found.astype(float) - up).mean() < 0.1 * 2550
    assert np.median(np.abs(found.astype(float) - up)) > 1  # it is not bicubic either


def test_a_declared_range(upscale, scene, tmp_path):
    values = rgb().astype(np.uint16) * 257
    source = scene(values)
    assert upscale(source, "--range", "0,65535")[0] == 0
    found = bands_of(tmp_path / "out" / "scene.tif") / 257
    assert upscale(scene(rgb(), "eight.tif"))[0] == 0
    eight = bands_of(tmp_path / "out" / "eight.tif")
    assert np.abs(found - eight).mean() < 0.6  # but for rounding the same
    code, err = upscale(source, "--range", "0,255", out=tmp_path / "other")
    assert code == 11
    assert "--range 0,255 is implausible" in err
    assert "% of the values lie outside" in err
    code, err = upscale(scene(values // 256, "dark.tif"), "--range", "0,65535")
    assert code == 11
    assert "so that the model would see next to nothing. Declare --range=" in err


def test_consistency_of_16_bits_with_values_beyond_the_range(upscale, scene, tmp_path):
    values = (rgb().astype(np.uint16) * 10) + 300
    values[0, 11, 20] = 3500
    assert upscale(scene(values), "--consistent")[0] == 0
    found = bands_of(tmp_path / "out" / "scene.tif").astype(np.float64)
    again = np.stack([reduction(24) @ band @ reduction(40).T for band in found])
    assert np.abs(again - values).max() < 1


def test_gaps_stay_gaps(upscale, scene, tmp_path):
    values = np.maximum(rgb(), 1)
    values[:, :, :10] = 0
    values[:, 5, 20] = 0
    assert upscale(scene(values, nodata=0))[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        assert out.nodata == 0
        gaps = ~(values != 0).any(0).repeat(4, axis=0).repeat(4, axis=1)
        np.testing.assert_array_equal((out.read() == 0).all(0), gaps)
    floats = values.astype(np.float32)
    floats[:, values[0] == 0] = np.nan
    assert upscale(scene(floats, "nan.tif"))[0] == 0
    np.testing.assert_array_equal(np.isnan(bands_of(tmp_path / "out" / "nan.tif")).all(0), gaps)


def test_what_is_valid_does_not_become_a_gap(upscale, scene, tmp_path):
    values = np.full((3, 24, 40), 255, np.uint8)
    values[:, :12] = rgb()[:, :12]
    values[0, 12:, 20:] = 254  # so that its neighbours, all 255, are the only gaps
    assert upscale(scene(values, nodata=255), "--consistent")[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        valid = (values != 255).any(0).repeat(4, axis=0).repeat(4, axis=1)
        np.testing.assert_array_equal(out.dataset_mask() > 0, valid)


def test_masks_alpha_and_nodata_that_no_pixel_can_have(upscale, scene, tmp_path):
    there = np.ones((24, 40), bool)
    there[:, :9] = False
    source = scene(rgb(), "mask.tif", then=lambda out: out.write_mask(there))
    assert upscale(source)[0] == 0
    with rasterio.open(tmp_path / "out" / "mask.tif") as out:
        assert out.mask_flag_enums[0] == [MaskFlags.per_dataset]
        np.testing.assert_array_equal(out.dataset_mask() > 0, there.repeat(4, 0).repeat(4, 1))
    alpha = np.concatenate([rgb(), np.where(there, 255, 0).astype(np.uint8)[None]])
    assert upscale(scene(alpha, "alpha.tif", photometric="RGB", alpha="YES"))[0] == 0
    with rasterio.open(tmp_path / "out" / "alpha.tif") as out:
        assert out.colorinterp[3] == ColorInterp.alpha
        np.testing.assert_array_equal(out.read(4), alpha[3].repeat(4, 0).repeat(4, 1))


def test_bands(upscale, scene, tmp_path):
    five = np.concatenate([rgb(), rgb(7)[:2]])
    source = scene(five, photometric="MINISBLACK", then=lambda out: setattr(out, "descriptions", tuple("abcde")))
    assert upscale(source, "--bands", "3,2,1")[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        assert out.descriptions == ("c", "b", "a")
        swapped = out.read()
    assert upscale(scene(five[2::-1], "swapped.tif"))[0] == 0
    np.testing.assert_array_equal(swapped, bands_of(tmp_path / "out" / "swapped.tif"))
    assert upscale(source, "--bands", "3,2,1", "--other-bands", "bicubic", out=tmp_path / "all")[0] == 0
    with rasterio.open(tmp_path / "all" / "scene.tif") as out:
        assert out.descriptions == tuple("abcde")
        found = out.read()
    np.testing.assert_array_equal(found[:3], swapped[::-1])
    up = up_from_lr(np.dstack([five[3], five[4], five[4]])).transpose(2, 0, 1)
    assert np.abs(found[3:].astype(int) - up[:2]).mean() < 0.5  # but for rounding between two passes
    grey = scene(five[:1], "grey.tif")
    assert upscale(grey, "--bands", "1,1,1")[0] == 0
    assert bands_of(tmp_path / "out" / "grey.tif").shape == (1, 96, 160)
    assert upscale(grey)[1].startswith(f"ttrd3: error: {grey}: found 1 band that are not marked as colours")


def test_samples(upscale, scene, tmp_path):
    values = np.maximum(rgb(), 1).astype(np.uint16) * 100
    values[:, :, :10] = 0
    assert upscale(scene(values, nodata=0), "--range", "0,25500", "--samples", 3)[0] == 0
    with rasterio.open(tmp_path / "out" / "scene_std.tif") as std, rasterio.open(tmp_path / "out" / "scene.tif") as out:
        assert (std.crs, std.transform, std.count) == (out.crs, out.transform, 3)
        found = std.read()
    assert np.isnan(found[:, :, :40]).all()
    assert 50 < found[:, :, 40:].mean() < 5000  # in the unit of the values


def test_ground_control_points_move_along(upscale, scene, tmp_path):
    def give_points(out):
        points = [
            GroundControlPoint(0, 0, 10, 50),
            GroundControlPoint(24, 40, 11, 49),
            GroundControlPoint(0, 40, 11, 50),
        ]
        out.gcps = (points, rasterio.CRS.from_epsg(4326))

    assert upscale(scene(rgb(), crs=None, transform=None, then=give_points))[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        points, crs = out.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col) for p in points] == [(0, 0), (96, 160), (0, 160)]


def test_rpcs_name_the_same_ground(upscale, scene, tmp_path):
    numerators = [[0.01 * n, long, lat] + [1e-3] * 17 for n, long, lat in ((1, 0.1, -1.0), (2, 1.0, 0.1))]
    denominator = [1.0] + [1e-4] * 19
    rpcs = RPC(
        height_off=100, height_scale=500, lat_off=48, lat_scale=0.1, long_off=15, long_scale=0.1,
        line_off=12.25, line_scale=12, line_num_coeff=numerators[0], line_den_coeff=denominator,
        samp_off=20, samp_scale=21, samp_num_coeff=numerators[1], samp_den_coeff=denominator,
    )  # fmt: skip
    assert upscale(scene(rgb(), crs=None, transform=None, then=lambda out: setattr(out, "rpcs", rpcs)))[0] == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        found = out.rpcs
    assert (found.line_off, found.samp_off) == (4 * 12.25 + 1.5, 4 * 20 + 1.5)
    assert (found.line_scale, found.samp_scale) == (4 * 12, 4 * 21)
    kept = {name: value for name, value in rpcs.to_dict().items() if not name.startswith(("line_s", "samp_s", "err"))}
    assert {name: getattr(found, name) for name in kept} == kept | {"line_off": 50.5, "samp_off": 81.5}
    before, after = RPCTransformer(rpcs), RPCTransformer(found)
    for x, y in ((15, 48), (14.93, 48.08), (15.1, 47.91)):  # a place, as rows and columns from the upper left corner
        row, column = before.rowcol(x, y, zs=100, op=float)
        assert after.rowcol(x, y, zs=100, op=float) == pytest.approx((4 * row, 4 * column), abs=1e-6)


@pytest.mark.parametrize("field", [("LINE_OFF", "x"), ("LINE_OFF", "12")], ids=["no number", "all others missing"])
def test_damaged_rpcs_are_told(upscale, scene, tmp_path, field):
    source = scene(rgb(), crs=None, transform=None)
    item = '<MDI key="{}">{}</MDI>'.format(*field)
    sidecar = f'<PAMDataset><Metadata domain="RPC">{item}</Metadata></PAMDataset>'
    source.with_name(source.name + ".aux.xml").write_text(sidecar)
    code, err = upscale(source)
    assert code == 0
    assert f"{source}: its RPCs are damaged (" in err
    assert "the result has none" in err
    with rasterio.open(tmp_path / "out" / "scene.tif") as out:
        assert out.rpcs is None


# --- references from the same place ---


@pytest.fixture
def pair(tmp_path, scene):
    """A scene of the sample's place at a quarter of its resolution, and the sample itself in another CRS."""
    with rasterio.open(SAMPLE) as sample:
        hr, profile, transform = sample.read()[:, :256, :256], sample.profile, sample.transform
        source = scene(
            lr_from_hr(hr.transpose(1, 2, 0)).transpose(2, 0, 1), crs=sample.crs,
            transform=transform @ rasterio.Affine.scale(4),
        )  # fmt: skip
        there, width, height = calculate_default_transform(
            sample.crs, "EPSG:4326", sample.width, sample.height, *sample.bounds
        )
        path = tmp_path / "geographic.tif"
        options = {"crs": "EPSG:4326", "transform": there, "width": width, "height": height, "nodata": 0}
        with rasterio.open(path, "w", **(profile | options)) as out:
            for band in (1, 2, 3):
                reproject(
                    rasterio.band(sample, band), rasterio.band(out, band), resampling=Resampling.cubic, dst_nodata=0
                )
    return source, path, hr.transpose(1, 2, 0)


def windows(upscaler, source, reference):
    """The references of the tiles of a scene of 64 x 64 pixels, in tiles of 32."""
    import contextlib

    from ttrd3.inference.file_options import FileOptions
    from ttrd3.inference.jobs import Job
    from ttrd3.inference.references import View

    with contextlib.ExitStack() as stack:
        job = Job(upscaler(), source, source.with_name("out.tif"), FileOptions(reference), stack)
        up = np.zeros((128, 128, 3), np.uint8)
        found = [job.references.window(View(y, x, 32, 32, (64, 64), up)) for y in (0, 32) for x in (0, 32)]
        return [None if excerpt is None else excerpt.pixels() for excerpt in found]


def test_the_same_place_is_found_in_another_crs(upscaler, pair):
    source, reference, hr = pair
    found = windows(upscaler, source, reference)
    expected = [hr[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.uint8
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9
    assert np.corrcoef(found[0].ravel(), expected[1].ravel())[0, 1] < 0.5


def test_a_rotated_scene_and_one_that_overlaps_in_part(upscaler, pair, scene, upscale, tmp_path):
    source, reference, hr = pair
    with rasterio.open(source) as given:
        pixels, transform = given.read(), given.transform
        quarter = transform @ rasterio.Affine.translation(64, 0) @ rasterio.Affine.rotation(90)
        turned = scene(np.rot90(pixels, axes=(1, 2)).copy(), "turned.tif", crs=given.crs, transform=quarter)
        aside = scene(pixels, "aside.tif", crs=given.crs, transform=transform @ rasterio.Affine.translation(-40, 0))
        away = scene(pixels, "away.tif", crs=given.crs, transform=transform @ rasterio.Affine.translation(900, 0))
    whole = np.rot90(hr)
    found = windows(upscaler, turned, reference)
    assert np.corrcoef(found[1].ravel(), whole[:128, 128:].ravel())[0, 1] > 0.9
    first, second, _, _ = windows(upscaler, aside, reference)
    assert first is None  # nothing of it
    assert second is not None
    code, err = upscale(away, "--reference", reference)
    assert code == 11
    assert f"{away}: the reference {reference} does not overlap it: it spans " in err


def test_the_reference_makes_a_difference_and_is_part_of_the_work(upscale, pair, tmp_path):
    source, reference, _ = pair
    assert upscale(source, "--reference", reference)[0] == 0
    found = bands_of(tmp_path / "out" / "scene.tif")
    code, err = upscale(source)
    assert code == 11
    assert "is there already and was made with other options or inputs" in err
    assert upscale(source, "--overwrite")[0] == 0
    assert (bands_of(tmp_path / "out" / "scene.tif") != found).mean() > 0.1


def test_a_scene_without_crs_takes_the_reference_as_a_picture(upscale, pair, scene):
    _, reference, _ = pair
    code, err = upscale(scene(rgb(), "bare.tif", crs=None, transform=None), "--reference", reference)
    assert code == 0
    assert "has no CRS or transform, so that the same place in" in err
