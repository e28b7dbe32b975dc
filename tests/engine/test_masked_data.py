"""Training and validation on 16-bit TIFFs with pixels without data."""

import csv
import json

import numpy as np
import pytest
import torch
from data.builders import SHARES, picture
from data.rasters import write_raster

from ttrd3.data.images import read_mask, read_rgb, write_png
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare
from ttrd3.engine.build import build_dataset
from ttrd3.engine.distributed import ALONE
from ttrd3.engine.loading import TrainingSamples, batches, training_loader
from ttrd3.engine.stepper import Stepper
from ttrd3.engine.trainer import Trainer
from ttrd3.engine.validation import validate_weights
from ttrd3.metrics import METRICS, Measuring
from ttrd3.reports.material import Material
from ttrd3.reports.runs import read_run

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
TILE = 96


@pytest.fixture
def root(tmp_path):
    """Four tiles, one of them with a hole."""
    for number in range(2):
        image = picture(number, TILE, 2 * TILE).astype(np.uint16) * 16
        if number == 0:
            image[:40, :50] = 0
        write_raster(tmp_path / f"raw/{number}.tif", image, nodata=0)
    prepare(tmp_path / "raw", tmp_path / "data", PrepareOptions(TILE, TILE, SHARES, scale="divide:4080"), workers=1)
    return tmp_path / "data"


def settings(root):
    return [f"data.{part}.{name}" for part in ("train", "val") for name in (f"root={root}", "split=train")] + [
        "data.val.crop=null", "data.val.limit=null", "data.train.crop=null", "train.steps=2",
    ]  # fmt: skip


def test_what_is_filled_is_no_warped_reference(root, tiny):
    options = tiny(*settings(root), "data.train.warped=1.0", "data.train.reference_dropout=0.0")
    dataset = build_dataset(options.data.train, 0)
    for index, tile in enumerate(dataset.tiles):
        name = dataset.sample(index, np.random.default_rng(index))["reference_name"]
        assert (name == f"{tile.name}, warped") == (tile.mask is None)


def test_validation_measures_valid_pixels_and_says_so(root, tiny):
    Trainer(tiny(*settings(root))).run()
    _, folder = validate_weights(tiny(*settings(root)))
    with (folder / "per_image.csv").open() as file:
        rows = {(row["image"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 8
    metrics = [METRICS.build({"type": name}, "metrics") for name in ("psnr", "ssim", "consistency")]
    name = "images/0_0000_0000"
    hr, sr = read_rgb(root / f"train/hr/{name}.png"), read_rgb(folder / f"images/{name}.png")
    found = Measuring(metrics)(sr, hr, read_mask(root / f"train/mask/{name}.png")).values
    plain = Measuring(metrics)(sr, hr).values
    for metric, value in found.items():
        assert float(rows[name, "ttrd3"][metric]) == pytest.approx(value, rel=1e-9)
        assert plain[metric] != pytest.approx(value, rel=1e-4)
    whole = "images/1_0000_0000"
    hr, sr = read_rgb(root / f"train/hr/{whole}.png"), read_rgb(folder / f"images/{whole}.png")
    assert float(rows[whole, "ttrd3"]["psnr"]) == metrics[0](sr, hr)
    said = json.loads((folder / "results.json").read_text())["protocol"]["nodata"]
    assert said.startswith("masked in 1 images (psnr: valid pixels; ssim: windows of valid pixels; consistency: LR")
    run = read_run(folder)
    pictures = Material(run)["images", name]  # a report finds the same PSNR of bicubic again
    np.testing.assert_array_equal(pictures.sr, read_rgb(folder / f"images/{name}.png"))


def losses(options):
    stepper = Stepper(options, torch.device("cpu"), ALONE)
    samples = TrainingSamples(build_dataset(options.data.train, options.seed), 1000, seed=options.seed)
    batch = next(batches(training_loader(samples, 4, 0, workers=0, pin=False)))
    values = stepper.step(0, [batch]).values
    return batch, {name: value for name, value in values.items() if name.startswith("loss/")}


def test_truth_without_data_has_no_influence_on_the_losses(root, tiny):
    """Beyond the mask HR may be anything: what is filled in is not learned. Only LR must be the same."""
    options = tiny(*settings(root), "data.train.reference=none", "data.train.augmentation=none",
                   "losses=[{type: l1, of: residual}, {type: posterior}]")  # fmt: skip
    batch, before = losses(options)
    assert (~batch["valid"]).sum() > 1000
    path = root / "train/hr/images/0_0000_0000.png"
    hr, valid = read_rgb(path), read_mask(root / "train/mask/images/0_0000_0000.png")
    assert not np.array_equal(hr, np.where(valid[..., None], hr, 255 - hr))
    write_png(path, np.where(valid[..., None], hr, 255 - hr))
    again, after = losses(options)
    assert not torch.equal(batch["hr"], again["hr"])
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert value > 0
        # x_t, which the network sees, is made of HR: it may look at what was filled, by a little
        assert after[name] == pytest.approx(value, rel=0.05)
