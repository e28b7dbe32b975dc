"""`prepare` of TIFFs of any depth: what lies on the disk afterwards, in numbers."""

import json
import shutil

import numpy as np
import pytest
import rasterio
from builders import SAMPLE, SHARES, picture, tree
from rasters import write_raster

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.images import read_mask, read_rgb, write_png
from ttrd3.data.layout import find_tiles
from ttrd3.data.library import list_library
from ttrd3.data.manifest import read_rows
from ttrd3.data.nodata import filled, untouched
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare
from ttrd3.data.triplets import TripletDataset
from ttrd3.errors import DataError, UserError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILE = 128


def run(tmp_path, **options):
    given = {"tile": TILE, "stride": TILE, "shares": SHARES, **options}
    return prepare(tmp_path / "raw", tmp_path / "out", PrepareOptions(**given), workers=1)


def refused(tmp_path, text, **options):
    with pytest.raises(UserError, match=text):
        run(tmp_path, **options)
    assert not (tmp_path / "out/manifest.json").exists()


def reflectance(seed, height=TILE, width=2 * TILE):
    """uint16 (H, W, 4): counts as Sentinel-2 has them, near infrared last."""
    image = picture(seed, height, width).astype(np.float64)
    return np.dstack([image, image.mean(2)]).astype(np.uint16) * 12 + 300


def hr_of(tmp_path, name):
    return read_rgb(tmp_path / f"out/train/hr/images/{name}.png")


def test_16_bit_bands_by_a_divisor(tmp_path):
    image = reflectance(0)
    image[0, 0] = 20_000
    rotated = rasterio.Affine(2, 1, 5e5, 1, -2, 4e6)
    write_raster(tmp_path / "raw/a.tif", image, transform=rotated, crs="EPSG:32633")
    write_raster(tmp_path / "raw/b.tif", reflectance(1))
    manifest = run(tmp_path, bands=[4, 3, 2], scale="divide:4000")
    expected = np.rint(np.minimum(image[..., [3, 2, 1]] / 4000 * 255, 255))
    for left, name in ((0, "a_0000_0000"), (TILE, "a_0000_0128")):
        hr = hr_of(tmp_path, name)
        np.testing.assert_array_equal(hr, expected[:, left : left + TILE])
        np.testing.assert_array_equal(read_rgb(tmp_path / f"out/train/lr/images/{name}.png"), lr_from_hr(hr))
    assert manifest["options"]["bands"] == [4, 3, 2]
    told = manifest["radiometry"]["hr"]
    assert (told["ranges"], told["bands"]) == (((0.0, 4000.0),) * 3, [4, 3, 2])
    assert manifest["nodata"] == {"tiles_masked": 0, "tiles_left_out": 0}
    assert not list((tmp_path / "out").rglob("mask"))
    assert run(tmp_path, bands=[4, 3, 2], scale="divide:4000")["counts"] == manifest["counts"]  # nothing to do
    with pytest.raises(UserError, match=r"bands was \[4, 3, 2\] and is now \[1, 2, 3\]"):
        run(tmp_path, bands=[1, 2, 3], scale="divide:4000")


def test_percentiles_are_of_the_whole_data_set(tmp_path):
    images = [reflectance(0)[..., :3], reflectance(1)[..., :3] + 2000]
    for number, image in enumerate(images):
        write_raster(tmp_path / f"raw/{number}.tif", image)
    manifest = run(tmp_path, scale="percentiles:2,98")
    ranges = np.array(manifest["radiometry"]["hr"]["ranges"])
    together = np.concatenate([image.reshape(-1, 3) for image in images])
    np.testing.assert_allclose(ranges.T, np.percentile(together, [2, 98], axis=0), atol=40)  # of a sample
    for number, image in enumerate(images):  # one range for both
        expected = (image[:, :TILE].astype(float) - ranges[:, 0]) / (ranges[:, 1] - ranges[:, 0]) * 255
        np.testing.assert_array_equal(hr_of(tmp_path, f"{number}_0000_0000"), np.rint(expected).clip(0, 255))
    clipped = manifest["radiometry"]["hr"]["clipped"]
    assert clipped["below"] == pytest.approx(0.02, abs=0.005)
    assert clipped["above"] == pytest.approx(0.02, abs=0.005)


def test_stopped_and_gone_on_is_as_if_never_stopped(tmp_path):
    image = reflectance(0)
    image[:40, 180:] = 0
    image[:, :100] = 0
    write_raster(tmp_path / "raw/a.tif", image, nodata=0)
    write_raster(tmp_path / "raw/b.tif", reflectance(1), nodata=0)
    options = {"bands": [1, 2, 3], "scale": "percentiles:1,99", "max_nodata": 0.3}
    manifest = run(tmp_path, **options)
    assert manifest["nodata"] == {"tiles_masked": 1, "tiles_left_out": 1}
    whole, out = tree(tmp_path / "out"), tmp_path / "out"
    plan = {key: manifest[key] for key in ("format", "made_by", "options", "sources")}
    (out / "manifest.json").unlink()
    (out / "prepare-plan.json").write_text(json.dumps(plan))
    (out / "train/hr/images/a_0000_0128.png").unlink()
    (out / "train/mask/images/a_0000_0128.png").unlink()
    run(tmp_path, **options)
    assert tree(out) == whole


def test_nodata_is_filled_and_masked(tmp_path):
    image = reflectance(0)[..., :3].astype(np.float32)
    image[:30, :50] = np.nan
    image[60, 200, 1] = np.nan
    write_raster(tmp_path / "raw/a.tif", image)
    manifest = run(tmp_path, scale="divide:4000")
    assert manifest["nodata"] == {"tiles_masked": 2, "tiles_left_out": 0}
    there = np.isfinite(image).all(2)
    rows = {row.name: row for row in read_rows(tmp_path / "out")}
    for left, name in ((0, "a_0000_0000"), (TILE, "a_0000_0128")):
        part = there[:, left : left + TILE]
        scaled = np.rint(np.nan_to_num(image[:, left : left + TILE]) / 4000 * 255).clip(0, 255).astype(np.uint8)
        hr, valid = hr_of(tmp_path, name), read_mask(tmp_path / f"out/train/mask/images/{name}.png")
        np.testing.assert_array_equal(hr, filled(scaled, part))
        np.testing.assert_array_equal(hr[part], scaled[part])
        np.testing.assert_array_equal(valid, untouched(part))
        assert rows[name].masked == pytest.approx(1 - valid.mean(), abs=1e-6)
    tiles = find_tiles(tmp_path / "out", "train")
    assert [tile.mask.name for tile in tiles] == ["a_0000_0000.png", "a_0000_0128.png"]
    (tmp_path / "out/train/mask/images/a_0000_0000.png").unlink()
    with pytest.raises(DataError, match=r"mask: does not fit tiles.csv.*images/a_0000_0000.*--overwrite"):
        find_tiles(tmp_path / "out", "train")


def test_tiles_with_too_little_data_are_left_out_and_counted(tmp_path):
    image = reflectance(0).astype(np.int16)
    image[:, :100] = -9999  # 78 % of the first tile
    image[::16, TILE : 2 * TILE] = -9999  # 6 % of the second, everywhere
    write_raster(tmp_path / "raw/a.tif", image, nodata=-9999)
    write_raster(tmp_path / "raw/b.tif", reflectance(1).astype(np.int16), nodata=-9999)
    manifest = run(tmp_path, bands=[1, 2, 3], scale="divide:4000")
    assert manifest["nodata"] == {"tiles_masked": 0, "tiles_left_out": 2}
    assert [row.name for row in read_rows(tmp_path / "out")] == ["b_0000_0000", "b_0000_0128"]
    assert (tmp_path / "out/tiles.csv").read_text().splitlines()[0].endswith(",perceptual")  # no column more
    (tmp_path / "raw/b.tif").unlink()
    shutil.rmtree(tmp_path / "out")
    refused(tmp_path, "all 2 tiles lack data .*--max-nodata", bands=[1, 2, 3], scale="divide:4000")


def test_8_bit_rgb_geotiffs_stay_as_they_are_unless_declared(tmp_path, caplog):
    """The embedded one declares 255 as nodata, which its saturated pixels have: they are no region and stay data."""
    (tmp_path / "raw").mkdir()
    shutil.copy(SAMPLE / "OSBS_029.tif", tmp_path / "raw/a.tif")
    manifest = run(tmp_path)
    assert "1 TIFFs declare pixels without data, which are taken for colours here; --scale none" in caplog.text
    assert manifest.keys().isdisjoint({"radiometry", "nodata"})
    assert manifest["options"].keys() == {
        "tile", "stride", "shares", "lists", "paired", "skip_bad", "convert",
    }  # fmt: skip
    before = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    manifest = run(tmp_path, scale="none")
    assert manifest["nodata"] == {"tiles_masked": 0, "tiles_left_out": 0}
    assert {name: data for name, data in tree(tmp_path / "out").items() if name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }


@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (lambda: reflectance(0), {}, r"a.tif: found 4 bands, expected 3. Say by --bands"),
        (lambda: reflectance(0), {"scale": "divide:4000"}, r"a.tif: found 4 bands, expected 3. Say by --bands"),
        (lambda: reflectance(0)[..., :3], {}, r"a.tif: found uint16, expected 8-bit .*--scale divide:10000"),
        (lambda: reflectance(0), {"bands": [1, 2, 3], "scale": "none"}, r"a.tif: found uint16, expected 8-bit"),
        (lambda: reflectance(0), {"bands": [5, 2, 3], "scale": "none"}, r"found 4 bands, but --bands asks for band 5"),
        (lambda: reflectance(0), {"bands": [1, 2, 3], "scale": "divide:1e6"}, r"divide:1e\+06 .*would be black"),
        (lambda: reflectance(0), {"bands": [1, 2, 3], "scale": "divide:255"}, r"would be saturated"),
        (lambda: reflectance(0) * [0, 1, 1, 1], {"bands": [1, 2, 3], "scale": "divide:4000"}, r"band 1 is 0 all over"),
        (lambda: reflectance(0) * np.nan, {"bands": [1, 2, 3], "scale": "divide:4000"}, r"no pixel with data"),
        (lambda: reflectance(0), {"scale": "auto"}, r"--scale: found 'auto'"),
        (lambda: reflectance(0), {"max_nodata": 1.5}, r"--max-nodata: found 1.5"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, make, options, text):
    image = make()
    write_raster(tmp_path / "raw/a.tif", image.astype(np.float32) if np.isnan(image).any() else image.astype(np.uint16))
    refused(tmp_path, text, **options)
    assert not list((tmp_path / "out").glob("train"))


def test_several_kinds_in_one_data_set_are_refused(tmp_path):
    write_raster(tmp_path / "raw/a.tif", reflectance(0)[..., :3])
    write_raster(tmp_path / "raw/b.tif", reflectance(1)[..., :3].astype(np.float32) / 10_000)
    refused(tmp_path, r"several types: float32 in 1 files, uint16 in 1 files", scale="divide:4000")
    (tmp_path / "raw/b.tif").unlink()
    (tmp_path / "raw/c.png").write_bytes((SAMPLE / "OSBS_029.tif").read_bytes())
    refused(tmp_path, r"c.png: not a TIFF, but --bands and --scale", scale="divide:4000")


def test_pairs_have_ranges_of_their_own_and_whole_references(tmp_path):
    image, reference = reflectance(0), reflectance(1).astype(np.float32) / 10_000
    reference[50, 200] = np.nan
    write_raster(tmp_path / "raw/hr/a.tif", image)
    write_raster(tmp_path / "raw/ref/a.tif", reference)
    manifest = run(tmp_path, bands=[1, 2, 3], scale="percentiles:0,100")
    assert manifest["nodata"] == {"tiles_masked": 0, "tiles_left_out": 1}  # the one whose reference has a hole
    found = read_rgb(tmp_path / "out/train/ref/images/a_0000_0000.png")
    low, high = np.array(manifest["radiometry"]["references"]["ranges"]).T
    assert (high < 1).all()
    expected = np.rint((reference[:, :TILE, :3].astype(float) - low) / (high - low) * 255).clip(0, 255)
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def masked(tmp_path):
    """Four tiles: the first with a mask."""
    image = reflectance(0)[..., :3]
    image[:40, :40] = 0
    write_raster(tmp_path / "raw/a.tif", image, nodata=0)
    write_raster(tmp_path / "raw/b.tif", reflectance(1)[..., :3], nodata=0)
    run(tmp_path, scale="divide:4000")
    return tmp_path / "out"


def test_samples_say_what_is_valid_in_their_window(masked):
    dataset = TripletDataset(str(masked), "train", crop=32, augmentation="joint", seed=0)
    assert (len(dataset), dataset.masked) == (4, 1)
    valid, hr = read_mask(dataset.tiles[0].mask), read_rgb(dataset.tiles[0].hr)
    marked = np.dstack([hr, valid])
    for seed in range(40):
        sample = dataset.sample(0, np.random.default_rng(seed))
        assert sample["valid"].shape == (1, 32, 32)
        assert sample["valid"].float().mean() >= 0.5  # there are such windows among eight
        found = np.dstack([sample["hr"].numpy().transpose(1, 2, 0), sample["valid"][0].numpy()])
        windows = np.lib.stride_tricks.sliding_window_view(marked, (32, 32), axis=(0, 1))[::4, ::4]
        flat = {w.transpose(1, 2, 0).tobytes() for w in windows.reshape(-1, 4, 32, 32)}
        turned = [np.rot90(side, k) for side in (found, found[:, ::-1]) for k in range(4)]
        assert any(np.ascontiguousarray(t).astype(np.uint8).tobytes() in flat for t in turned)
    assert dataset.sample(1, np.random.default_rng(0))["valid"].all()
    assert "valid" not in TripletDataset(str(SAMPLE / "neon"), "val", seed=0).sample(0, np.random.default_rng(0))


def test_a_tile_with_a_mask_serves_as_no_reference(masked):
    dataset = TripletDataset(str(masked), "train", seed=0)
    names = {dataset.sample(1, np.random.default_rng(seed))["reference_name"] for seed in range(40)}
    assert names == {"images/b_0000_0000", "images/b_0000_0128"}
    files, _ = list_library(masked)
    assert "train/hr/images/a_0000_0000.png" not in {file.name for file in files}
    assert len(files) == 3


def test_a_mask_that_is_none(masked):
    dataset = TripletDataset(str(masked), "train", seed=0)
    path = dataset.tiles[0].mask
    for image, text in ((picture(0), "found RGB, expected a mask"), (np.full((8, 8), 255, np.uint8), "8 x 8 pixels")):
        write_png(path, image)
        with pytest.raises(DataError, match=rf"mask/images/a_0000_0000.png: .*{text}"):
            dataset.sample(0, np.random.default_rng(0))


@pytest.mark.parametrize("damaged", ["hr", "ref"])
def test_a_pair_of_which_one_is_cut_short(tmp_path, damaged):
    for kind in ("hr", "ref"):
        write_raster(tmp_path / f"raw/{kind}/a.tif", reflectance(0, height=2 * TILE))
        write_raster(tmp_path / f"raw/{kind}/b.tif", reflectance(1, height=2 * TILE))
    path = tmp_path / "raw" / damaged / "a.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])  # the upper tiles can be read
    options = {"bands": [1, 2, 3], "scale": "divide:4000"}
    refused(tmp_path, rf"1 with problems:\n.*{damaged}/a.tif: truncated, damaged", **options)
    manifest = run(tmp_path, skip_bad=True, **options)
    assert manifest["counts"]["train"] == {"images": 4}
    assert manifest["left_out"].keys() == {"a.tif"}
    assert len(find_tiles(tmp_path / "out", "train")) == 4
