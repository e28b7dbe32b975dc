"""Validation: the same numbers however it is run, and what it leaves behind."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from metrics.weights import save_features, save_inception
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torchvision import models

from ttrd3.__main__ import main
from ttrd3.engine.build import build_dataset, build_model, build_process
from ttrd3.engine.loading import ValidationSamples
from ttrd3.engine.trainer import Trainer
from ttrd3.engine.validation import make_restorer, make_validator, validate_weights
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError, UserError
from ttrd3.inference.symmetries import turned_back
from ttrd3.metrics import METRICS, Measuring


@pytest.fixture
def run(tiny):
    trainer = Trainer(tiny("train.steps=1"))
    trainer.run()
    return trainer


def rows_of(folder):
    with (folder / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_and_val_agree(run, tiny):
    found, folder = validate_weights(tiny("train.steps=1"))
    theirs = run.folder.validation("step-00000001")
    assert folder != theirs  # val never writes over what training found
    assert (folder / "per_image.csv").read_text() == (theirs / "per_image.csv").read_text()
    results = json.loads((theirs / "results.json").read_text())
    assert found.results.overall()["ttrd3"] == results["ttrd3"]
    assert results["protocol"]["training_steps"] == 1
    assert results["protocol"]["crop"] == 64


def test_reference_strength(run, tiny):
    def psnr(*settings):
        found, _ = validate_weights(tiny("train.steps=1", *settings))
        return found.results.overall()["ttrd3"]["psnr"]

    assert psnr("sampling.reference_strength=0") == psnr("data.val.reference=none")
    assert psnr("sampling.reference_strength=0.5") != psnr() != psnr("sampling.reference_strength=0")


def test_validations_on_other_data_have_folders_of_their_own(run, tiny, tmp_path):
    def folder(*settings):
        return validate_weights(tiny("train.steps=1", "val.pictures=0", "val.save_images=false", *settings))[1]

    shutil.copytree(ROOT / "samples/neon", tmp_path / "mine")
    index = tmp_path / "sharp.index"
    assert main(["-q", "index", "--library", str(ROOT / "samples/neon"), "--out", str(index)]) == 0
    retrieved = ("data.val.reference=retrieved", f"data.val.index={index}")
    found = [folder(), folder(f"data.val.root={tmp_path / 'mine'}"), folder("data.val.reference_split=train")]
    found += [folder(*retrieved), folder(*retrieved, "data.val.top=2"), folder("data.val.augmentation=joint")]
    (tmp_path / "again").mkdir()
    shutil.copy(index, tmp_path / "again" / index.name)
    found += [folder(*retrieved, f"data.val.index={tmp_path / 'again' / index.name}")]
    assert len(set(found)) == 7
    assert "-mine-val-" in found[1].name
    assert "-sharp-top2-" in found[4].name


def test_an_ensemble_turns_images_and_noise_alike(tiny):
    """Eight orientations of one sample, not eight samples."""
    options = tiny("sampling.ensemble=true")
    model, process = build_model(options.model, options.diffusion).eval(), build_process(options.diffusion)
    restorer, seen = make_restorer(options, model, process), []

    def sampled(up, textures, noise):
        seen.append((up, noise(), textures[-1]))
        return up

    restorer.sampled = sampled
    images = [torch.rand(2, 3, 32, 48) for _ in range(3)]
    found = restorer(*images, torch.tensor([True, False]), ["one", "two"])
    torch.testing.assert_close(found, images[0])
    assert len(seen) == 8
    for symmetry, (up, noise, texture) in enumerate(seen):
        assert torch.equal(turned_back(up, symmetry), images[0])
        assert torch.equal(turned_back(noise, symmetry), seen[0][1])
        assert texture[0].any()
        assert not texture[1].any()


def test_a_validation_says_that_it_is_of_an_ensemble(run, tiny):
    plain, _ = validate_weights(tiny("train.steps=1"))
    found, folder = validate_weights(tiny("train.steps=1", "sampling.ensemble=true"))
    assert found.protocol["ensemble"] is True
    assert "-ensemble-" in folder.name
    assert found.results.overall()["ttrd3"]["psnr"] != plain.results.overall()["ttrd3"]["psnr"]


def test_what_is_written_is_what_was_measured(run, tiny):
    _, folder = validate_weights(tiny("data.val.crop=null"))
    rows = rows_of(folder)
    assert len(rows) == 2 * 3
    hr_root = ROOT / "samples/neon/val/hr"
    for row in rows:
        hr = np.asarray(Image.open(hr_root / f"{row['image']}.png"))
        if row["method"] == "ttrd3":
            sr = np.asarray(Image.open(folder / "images" / f"{row['image']}.png"))
        else:
            small = Image.fromarray(hr).resize((64, 64), Image.Resampling.BICUBIC)
            sr = np.asarray(small.resize((256, 256), Image.Resampling.BICUBIC))
        assert float(row["psnr"]) == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), rel=1e-9)
        assert row["reference"]
    results = json.loads((folder / "results.json").read_text())
    for method in ("bicubic", "ttrd3"):
        mean = np.mean([float(row["psnr"]) for row in rows if row["method"] == method])
        assert results[method]["psnr"] == pytest.approx(mean)
    assert len(list((folder / "pictures").glob("*.png"))) == 2  # one picture and the overview


def test_the_result_depends_on_the_seed_and_not_on_the_batch(run, tiny):
    def psnr(*settings):
        _, folder = validate_weights(tiny(f"weights={run.folder.weights}", "sampling.eta=0.7", *settings))
        return {row["image"]: float(row["psnr"]) for row in rows_of(folder) if row["method"] == "ttrd3"}

    alone = psnr("val.batch_size=1")
    assert psnr("val.batch_size=1") == alone
    together = psnr("val.batch_size=3")
    assert together.keys() == alone.keys()
    for name, value in alone.items():  # convolutions may round otherwise in another batch: never by a visible amount
        assert together[name] == pytest.approx(value, abs=1e-3)
    assert psnr("val.batch_size=1", "seed=11") != alone


def test_no_reference_and_no_pictures(run, tiny):
    _, folder = validate_weights(tiny("data.val.reference=none", "val.pictures=0", "val.save_images=false"))
    assert all(row["reference"] == "" for row in rows_of(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["per_image.csv", "results.json", "results.md"]


def test_missing_weights_say_how_to_get_them(tiny, tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights yet. Train them .*weights=FILE"):
        validate_weights(tiny())
    with pytest.raises(CheckpointError, match=r"a\.safetensors: there is no such file"):
        validate_weights(tiny(f"weights={tmp_path / 'a.safetensors'}"))


def test_weights_of_another_architecture(run, tiny):
    with pytest.raises(CheckpointError, match=r"model.unet.type: '1Net-A' in the file, '2Net' in the options"):
        validate_weights(tiny("model.unet.type=2Net"))
    with pytest.raises(CheckpointError, match=r"diffusion.objective: 'pred_res_noise' in the file, 'pred_res' in"):
        validate_weights(tiny("diffusion.objective=pred_res", "losses=[{type: posterior}]"))


def test_a_validation_that_fails_leaves_the_former_results(run, tiny, monkeypatch):
    folder = run.folder.validation("step-00000001")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    validator = make_validator(tiny(), torch.device("cpu"))

    class Failing:
        calls = 0

        def __call__(self, *arguments):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return arguments[0]

    with pytest.raises(KeyboardInterrupt):
        validator.run(Failing(), folder, {})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(folder.parent.glob(".*"))


def test_images_of_different_sizes_in_one_batch(tiny, tmp_path):
    """In the authors' layout, which has no manifest, tiles may differ in size."""
    rng = np.random.default_rng(0)
    for number, size in enumerate((64, 96)):
        for folder, side in (("hr_96", size), ("lr_24", size // 4)):
            path = tmp_path / "data/test" / folder / f"scene_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    options = tiny(f"data.val.root={tmp_path / 'data'}", "data.val.split=test", "data.val.reference=none",
                   "data.val.crop=null", "val.batch_size=2")  # fmt: skip
    validator = make_validator(options, torch.device("cpu"))
    with pytest.raises(UserError, match=r"different sizes \(64 x 64, 96 x 96\).*val.batch_size=1"):
        validator.rehearse(lambda *arguments: arguments[0])


def test_restoring_one_image_is_independent_of_its_neighbours(tiny):
    options = tiny("sampling.eta=1.0")
    torch.manual_seed(5)
    model = build_model(options.model, options.diffusion).eval()
    restorer = make_restorer(options, model, build_process(options.diffusion))
    up, reference, degraded = (torch.rand(3, 3, 32, 32) for _ in range(3))
    has = torch.tensor([True, False, True])
    whole = restorer(up, reference, degraded, has, ["a", "b", "c"])
    assert whole.min() >= 0
    assert whole.max() <= 1
    one = slice(1, 2)
    alone = restorer(up[one], reference[one], degraded[one], has[one], ["b"])
    torch.testing.assert_close(alone, whole[one], rtol=0, atol=1e-5)
    without = restorer(up[one], None, None, None, ["b"])
    torch.testing.assert_close(without, alone, rtol=0, atol=1e-5)


def test_perceptual_and_set_metrics_in_val(run, tiny, tmp_path, monkeypatch):
    """LPIPS and FID with local weights beside a metric whose weights cannot be had."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: as without a network
    squeeze = save_features(tmp_path / "squeeze.pth", models.squeezenet1_1)
    inception = save_inception(tmp_path / "inception.pth")
    metrics = (
        f"val.metrics=[{{type: dists}}, {{type: lpips, net: squeeze, file: {squeeze}}}, "
        f"{{type: fid, features: 64, file: {inception}}}, {{type: psnr}}]"
    )
    found, folder = validate_weights(tiny("train.steps=1", metrics))
    results = json.loads((folder / "results.json").read_text())
    assert results["ttrd3"].keys() == {"lpips_squeeze", "psnr"}
    assert results["statistics"]["not_available"].keys() == {"dists"}
    # The same by hand: the images that were written, and the truths.
    fid = METRICS.build({"type": "fid", "features": 64, "file": str(inception)}, "metrics")
    measure = Measuring([fid, METRICS.build({"type": "lpips", "net": "squeeze", "file": str(squeeze)}, "metrics")])
    options = tiny("train.steps=1")
    samples = ValidationSamples(build_dataset(options.data.val, options.seed), seed=options.seed)
    measured = []
    for sample in (samples[index] for index in range(len(samples))):
        sr = np.asarray(Image.open(folder / "images" / f"{sample['name']}.png"))
        measured.append(measure(sr, sample["hr"].permute(1, 2, 0).numpy()))
    lpips = np.mean([one.values["lpips_squeeze"] for one in measured])
    assert results["ttrd3"]["lpips_squeeze"] == pytest.approx(lpips, rel=1e-5)
    features = np.stack([one.features[fid.extractor.key] for one in measured], axis=1)
    value = results["statistics"]["sets"]["ttrd3"]["fid_64"]
    assert value["value"] == pytest.approx(fid.compute(*features).value, rel=1e-4)
    assert value["warning"]
    assert found.results.set_values()["bicubic"]["fid_64"].value > 0
