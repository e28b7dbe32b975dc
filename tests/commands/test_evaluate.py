"""`ttrd3 evaluate` on folders, as a user calls it."""

import csv
import json
import shutil

import numpy as np
import pytest
from metrics.weights import save_features, save_inception
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchvision import models

from ttrd3.__main__ import main
from ttrd3.environment import ROOT
from ttrd3.metrics import METRICS

VAL = ROOT / "samples/neon/val"


@pytest.fixture
def sharp(tmp_path):
    """SR images: LR enlarged by Lanczos, class folders as in HR."""
    for path in sorted((VAL / "lr").rglob("*.png")):
        target = tmp_path / "sr" / path.relative_to(VAL / "lr")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((256, 256), Image.Resampling.LANCZOS).save(target)
    return tmp_path / "sr"


@pytest.fixture(autouse=True)
def _no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: as without a network


def evaluate(*words):
    return main(["evaluate", *map(str, words)])


def test_the_papers_protocol_beside_bicubic(sharp, tmp_path, capsys):
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--lr", VAL / "lr", "--out", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out/per_image.csv").open()))
    assert len(rows) == 2 * 5
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["images"] == 5
    for method in ("bicubic", "sr"):
        psnr, ssim = [], []
        for row in (row for row in rows if row["method"] == method):
            hr = np.asarray(Image.open(VAL / "hr" / f"{row['image']}.png"))
            small = Image.open(VAL / "lr" / f"{row['image']}.png")
            kind = Image.Resampling.BICUBIC if method == "bicubic" else Image.Resampling.LANCZOS
            image = np.asarray(small.resize((256, 256), kind))
            psnr.append(peak_signal_noise_ratio(hr, image, data_range=255))
            ssim.append(structural_similarity(hr, image, channel_axis=2))
            assert float(row["psnr"]) == pytest.approx(psnr[-1], rel=1e-9)
            assert row["class"] == row["image"].split("/")[0]
        assert found[method]["psnr"] == pytest.approx(np.mean(psnr))
        assert found[method]["ssim"] == pytest.approx(np.mean(ssim))
    assert found["sr"].keys() == {"psnr", "ssim", "consistency", "improvement", "omission", "hallucination"}
    assert found["per_class"].keys() == {"forest", "meadow", "road", "windthrow"}
    assert found["protocol"]["scale"] == 4
    assert found["protocol"]["lr_to_bicubic_reduction_of_hr_db"] == 80
    assert found["statistics"]["not_available"].keys() == {"lpips", "dists", "fid", "kid"}
    assert "5 images; mean over images; differences are to bicubic." in shown
    assert "fid, kid: not available: the weights of inception are not at" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 100 + len(str(tmp_path))  # a path is not broken
    assert not (tmp_path / "torch").exists()  # nothing was downloaded unasked


def test_perceptual_and_set_metrics_with_local_weights(sharp, tmp_path, capsys):
    squeeze = save_features(tmp_path / "squeeze.pth", models.squeezenet1_1)
    inception = save_inception(tmp_path / "inception.pth")
    metrics = [
        f"lpips,net=squeeze,file={squeeze}",
        f"fid,features=64,file={inception}",
        f"kid,file={inception},features=64",
    ]
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--out", tmp_path / "out", "--metrics", *metrics) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "out/results.json").read_text())
    lpips = METRICS.build({"type": "lpips", "net": "squeeze", "file": str(squeeze)}, "metrics")
    expected = []
    for path in sorted(sharp.rglob("*.png")):
        sr, hr = (np.asarray(Image.open(folder / path.relative_to(sharp))) for folder in (sharp, VAL / "hr"))
        expected.append(lpips(sr, hr))
    assert found["sr"] == {"lpips_squeeze": pytest.approx(np.mean(expected))}
    sets = found["statistics"]["sets"]["sr"]
    assert sets["fid_64"]["value"] > 0
    assert sets["fid_64"]["images"] == 5
    assert "fewer than the 64 features" in sets["fid_64"]["warning"]
    assert sets["kid_64"]["spread"] > 0
    assert f"{sets['fid_64']['value']:.2f} (!)" in shown
    assert "(!) fid_64: 5 images, fewer than the 64 features" in shown
    assert "bicubic" not in found  # without LR there is none


def test_against_a_second_method(sharp, tmp_path, capsys):
    shutil.copytree(VAL / "hr", tmp_path / "perfect")
    words = ["--sr", tmp_path / "perfect", "--hr", VAL / "hr", "--against", sharp, "--out", tmp_path / "out"]
    assert evaluate(*words, "--metrics", "psnr") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    test = found["statistics"]["paired"]["sr"]["psnr"]
    assert test["difference"] == pytest.approx(found["sr"]["psnr"] - found["against"]["psnr"])
    assert (test["images"], test["larger"], test["p_value"]) == (5, 5, pytest.approx(2 / 2**5))
    assert "sr - against, psnr: " in capsys.readouterr().out


def test_the_scale_of_lr_is_taken_over(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        hr = Image.fromarray(rng.integers(0, 256, (64, 48, 3), dtype=np.uint8))
        for folder, image in (("hr", hr), ("sr", hr), ("lr", hr.resize((24, 32), Image.Resampling.BICUBIC))):
            (tmp_path / folder).mkdir(exist_ok=True)
            image.save(tmp_path / folder / f"{number}.png")
    words = ["--sr", tmp_path / "sr", "--hr", tmp_path / "hr", "--lr", tmp_path / "lr", "--out", tmp_path / "out"]
    assert evaluate(*words, "--metrics", "consistency", "omission,border=0") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["sr"]["consistency_x2"] == 80
    assert found["protocol"]["scale"] == 2
    assert "omission_x2_border0" in found["bicubic"]
    assert found["per_class"].keys() == {""}


def test_a_named_metric_that_is_not_available_sets_the_exit_code(sharp, capsys):
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--metrics", "psnr", "dists") == 1
    shown = capsys.readouterr().out
    assert "dists: not available: the weights of vgg16 are not there and could not be downloaded" in shown
    assert "psnr (dB)" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "psnr,chanels=y"], "metric.chanels is not an option. Did you mean channels?"),
        (["--metrics", "psnr,border=-1"], "metric.border: found -1, expected greater than or equal to 0"),
        (["--metrics", "psn"], "metric.type: found 'psn', expected one of"),
        (["--metrics", "psnr", "psnr"], "two metrics would both be written as 'psnr'"),
        (["--metrics", "lpips,file=nothing.pth"], "nothing.pth: no such file"),
        (["--device", "gpu"], "device: found 'gpu', expected auto, cpu, cuda or cuda:N"),
        (["--lr", "nothing"], "--lr nothing: no such folder"),
    ],
)
def test_mistakes_are_told_in_one_line(sharp, tmp_path, capsys, words, message):
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out/results.json").exists()


def test_images_that_cannot_be_used_are_named(sharp, tmp_path, capsys):
    path = next(sharp.rglob("*.png"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--metrics", "psnr") == 2
    assert f"{path}: truncated" in capsys.readouterr().err
    Image.fromarray(np.zeros((256, 256), np.uint16)).save(path)
    assert evaluate("--sr", sharp, "--hr", VAL / "hr", "--metrics", "psnr") == 2
    assert f"{path}: found 16-bit" in capsys.readouterr().err
    for folder in ("small", "truth"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((5, 9, 3), np.uint8)).save(tmp_path / folder / "x.png")
    assert evaluate("--sr", tmp_path / "small", "--hr", tmp_path / "truth", "--metrics", "ssim") == 2
    assert f"{tmp_path / 'truth/x.png'}: an image of 9 x 5 is too small" in capsys.readouterr().err


def test_masked_pixels_do_not_count(sharp, tmp_path, capsys):
    name = sorted((VAL / "hr").rglob("*.png"))[0].relative_to(VAL / "hr")
    mask = np.full((256, 256), 255, np.uint8)
    mask[:100, :80] = 0
    (tmp_path / "mask" / name).parent.mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "mask" / name)
    words = ["--sr", sharp, "--hr", VAL / "hr", "--metrics", "psnr"]
    values = {}
    for more in ([], ["--mask", tmp_path / "mask"]):
        assert evaluate(*words, *more, "--out", tmp_path / "out") == 0
        rows = csv.DictReader((tmp_path / "out/per_image.csv").open())
        values[len(more)] = {row["image"]: float(row["psnr"]) for row in rows}
    assert "masked in 1 images (psnr: valid pixels)" in " ".join(capsys.readouterr().out.split())
    changed = {image for image, value in values[0].items() if values[2][image] != value}
    assert changed == {str(name.with_suffix(""))}
    hr, sr = (np.asarray(Image.open(folder / name))[mask > 0] for folder in (VAL / "hr", sharp))
    assert values[2][changed.pop()] == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), rel=1e-9)

    Image.fromarray(mask[:8]).save(tmp_path / "mask" / name)
    assert evaluate(*words, "--mask", tmp_path / "mask") == 2
    assert "found 256 x 8 pixels, expected the 256 x 256 of" in capsys.readouterr().err
    (tmp_path / "mask" / name).rename(tmp_path / "mask" / "other.png")
    assert evaluate(*words, "--mask", tmp_path / "mask") == 2
    assert "1 masks belong to no image of --hr: other" in capsys.readouterr().err
