"""`ttrd3 import-released` on whole files: the authors' numbers come out, and validation runs on what it writes."""

import json
import shutil

import numpy as np
import pytest
import torch
from golden.rules import released_checkpoint, released_state
from helpers import relative_error
from networks.released import VARIANTS
from PIL import Image
from safetensors.torch import load_file

from ttrd3 import config
from ttrd3.__main__ import main
from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.diffusion.samplers import sample
from ttrd3.engine import checkpoint
from ttrd3.engine.build import build_model, build_process
from ttrd3.engine.options import load_options
from ttrd3.environment import ROOT
from ttrd3.files import PARTIAL
from ttrd3.released.keys import texture_net_state


@pytest.fixture(scope="session")
def imported(tmp_path_factory):
    """`imported(variant)` -> folder with model-300.pt (1Net-A's is kept), weights a.safetensors, a.yml, summary.txt."""
    root = tmp_path_factory.mktemp("released")

    def make(variant: str):
        folder = root / variant
        if not folder.exists():
            folder.mkdir()
            torch.save(released_checkpoint(VARIANTS[variant]), folder / "model-300.pt")
            words = ["import-released", str(folder / "model-300.pt"), "--out", str(folder / "a.safetensors")]
            assert main(words) == 0
            if variant != "1Net-A":
                (folder / "model-300.pt").unlink()
        return folder

    yield make
    shutil.rmtree(root)  # files of a GB, of which pytest would keep three sets


@pytest.fixture
def validate(imported, tmp_path):
    """`validate(setting, ...)` -> PSNR, restored pixels and protocol on a small crop of the embedded sample."""

    def run(*settings):
        words = ["data.val.root=samples/neon", "data.val.crop=32", "data.val.limit=1", "sampling.steps=1", "device=cpu"]
        words += [f"output={tmp_path}", "val.pictures=0", "val.save_images=true", *settings]
        before = set(tmp_path.rglob("results.json"))
        assert main(["val", str(imported("1Net-A") / "a.yml"), *words]) == 0
        (results,) = set(tmp_path.rglob("results.json")) - before  # no validation takes the place of another
        (image,) = results.parent.rglob("images/**/*.png")
        return np.asarray(Image.open(image)).astype(int), json.loads(results.read_text())["protocol"]

    return run


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_released_results_are_reproduced(golden, imported, variant):
    g, images = golden(f"unet_{VARIANTS[variant]}"), golden("reference_net")
    folder = imported(variant)
    options = load_options([str(folder / "a.yml")])
    assert options.model.unet.type == variant
    assert options.model.transfer.matches == images["k"].tolist()
    model = build_model(options.model, options.diffusion).eval()
    assert checkpoint.load_weights(model, folder / "a.safetensors", options).step == 300000
    process, objective = build_process(options.diffusion), OBJECTIVES[options.diffusion.objective]
    x_in = 2 * images["lrsr"] - 1
    with torch.inference_mode():
        textures = model.encode(images["lrsr"], images["ref"], images["refsr"])

        def predict(x, t):
            return objective.convert(model.denoise(x, t, x_in, textures), process, x, x_in, t, clamp=True)

        start = process.start(x_in, g["loss_eps"])
        sr = sample(predict, process, start, options.sampling.steps, options.sampling.eta)
    assert relative_error((sr + 1) / 2, g["pipeline_sr"]) < 1e-4


def test_options_and_weights_belong_together(imported):
    folder = imported("1Net-A")
    options = load_options([str(folder / "a.yml")])
    assert options.weights == str((folder / "a.safetensors").resolve())
    stored = checkpoint.load(folder / "a.safetensors")
    assert stored.options | {"weights": options.weights} == options.model_dump(mode="json")
    assert str(folder) not in json.dumps(stored.options)  # whoever is given the weights learns no path
    paper = config.load(type(options), ROOT / "options" / "TTRD3.yml")
    for section in ("data", "losses", "train", "val", "diffusion", "sampling"):
        assert getattr(options, section) == getattr(paper, section)


def test_the_summary(imported, tmp_path, capsys):
    source = imported("1Net-A") / "model-300.pt"
    out = tmp_path / "my weights" / "b.safetensors"
    assert main(["import-released", str(source), "--out", str(out), "--texture-net", "ema"]) == 0
    text = capsys.readouterr().out
    assert f"{source}: TTRD3-1Net-A, step 300000\n" in text
    assert "   276   53,760,262  taken    the averaged UNet (ema.ema_model)\n" in text
    assert "    74      602,648  taken    the texture net, encoder and STTG (ema_ref.ema_model)\n" in text
    assert "    84   38,834,916  dropped  frozen VGG19 of the perceptual loss\n" in text
    assert f"Validate with: ttrd3 val '{out.with_suffix('.yml')}' data.val.root=FOLDER\n" in text

    ema, _ = texture_net_state(released_state("refnet", "ema_model."))
    tensors, online = load_file(out), load_file(imported("1Net-A") / "a.safetensors")
    for name, value in ema.items():
        assert torch.equal(tensors[name], value)
        assert not torch.equal(online[name], value) or name == "transfer.global_weight"  # 0.1 in both
    assert all(torch.equal(tensors[name], online[name]) for name in tensors if name.startswith("unet."))


SWITCHES = {
    "encoder": ["model.encoder.value_range=unit"],
    "fold": ["model.transfer.normalization=overlap"],
    "learned": ["model.transfer.selection=learned"],
    "learned, all": ["model.transfer.selection=learned", "model.transfer.matches=[5,5,5]"],
    "one match": ["model.transfer.matches=[1,1,1]"],
}


def test_each_corrected_behaviour_can_be_switched_on_alone(validate, capsys):
    found = {"": validate()}
    assert "made with" not in capsys.readouterr().err
    for name, settings in SWITCHES.items():
        found[name] = validate(*settings)
        log, protocol = capsys.readouterr().err, found[name][1]
        for option, _, value in (setting.partition("=") for setting in settings):
            assert f"made with {option}=" in log
            assert protocol[option].startswith(value.replace(",", ", ") + " (weights: ")
        assert len(protocol) == len(found[""][1]) + len(settings)
    images = {name: image for name, (image, _) in found.items()}
    for name, image in images.items():
        for other, another in images.items():
            assert name == other or (image != another).any(), f"{name!r} and {other!r} give the same image"


def test_the_same_command_gives_the_same_image(validate, tmp_path):
    first, _ = validate()
    shutil.rmtree(tmp_path / "TTRD3-1Net-A-released")
    second, _ = validate()
    assert (first == second).all()


def test_options_of_another_architecture_name_the_right_ones(imported, capsys):
    folder = imported("1Net-A")
    assert main(["val", f"weights={folder / 'a.safetensors'}", "data.val.root=samples/neon"]) == 2
    message = capsys.readouterr().err
    assert "model.encoder.block: 'released' in the file, 'paper' in the options" in message
    assert f"Its own options are in {folder / 'a.yml'}." in message


def test_what_is_there_is_not_replaced_unasked(imported, tmp_path, capsys):
    source, out = imported("1Net-A") / "model-300.pt", tmp_path / "w.safetensors"
    words = ["import-released", str(source), "--out", str(out)]
    out.with_suffix(".yml").write_text("mine")
    assert main(words) == 2
    assert f"--out: {out.with_suffix('.yml')} exist already. Add --overwrite" in capsys.readouterr().err
    assert not out.exists()
    out.write_bytes(b"old")
    assert main([*words, "--overwrite"]) == 0
    assert len(load_file(out)) == 352
    assert load_options([str(out.with_suffix(".yml"))]).weights == str(out)


@pytest.mark.parametrize("name", ["w.pt", "w", "w.yml"])
def test_weights_are_safetensors(imported, tmp_path, capsys, name):
    assert main(["import-released", "model-300.pt", "--out", str(tmp_path / name)]) == 2
    assert f"--out: found {tmp_path / name}, expected the name of a file that ends in" in capsys.readouterr().err


def test_both_files_or_neither(imported, tmp_path, capsys):
    (tmp_path / "w.safetensors").mkdir()
    words = ["import-released", str(imported("1Net-A") / "model-300.pt"), "--out", str(tmp_path / "w.safetensors")]
    assert main([*words, "--overwrite"]) == 2
    assert f"{tmp_path / 'w.safetensors'}: cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert not list(tmp_path.rglob(f"*{PARTIAL}"))
