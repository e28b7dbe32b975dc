"""`ttrd3 export`: the graph runs without PyTorch and gives what PyTorch gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import SMALL, TINY
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.engine import build, checkpoint
from ttrd3.engine.export import Restoration
from ttrd3.engine.options import Options, load_options
from ttrd3.engine.validation import make_restorer
from ttrd3.networks.transfer import _gather_sum

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    options = load_options([str(ROOT / "options" / "quickstart.yml"), *TINY, "diffusion.timesteps=10"])
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("export") / "tiny.safetensors"
    checkpoint.save_state(path, build.build_model(options.model, options.diffusion).state_dict(), options, 3)
    return path


@pytest.fixture(scope="module")
def graph(weights):
    path = weights.with_name("tiny.onnx")
    assert main(["export", "--onnx", str(path), "--weights", str(weights), "--tile", "32", "--steps", "2"]) == 0
    return path


def test_fidelity_is_what_val_takes_it_for(weights):
    stored = checkpoint.load(weights)
    options = Options.model_validate(stored.options).model_copy(deep=True)
    options.sampling.fidelity, options.sampling.steps = 0.75, 2
    restoration = Restoration(options, stored.weights(), weights, 2, 0.0, 0.75).eval()
    up = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(32, 32, 3, generator=torch.Generator().manual_seed(2))
    plain = build.build_model(options.model, options.diffusion)
    checkpoint.load_state(plain, stored.weights(), weights)
    restorer = make_restorer(options, plain.eval(), restoration.process)
    expected = restorer.sampled(up.permute(2, 0, 1)[None] / 255, None, lambda: noise.permute(2, 0, 1)[None])
    with torch.no_grad():
        found = restoration(up, noise)
    assert torch.allclose(found, expected[0].permute(1, 2, 0), atol=1e-6)
    restorer.fidelity = 0.0
    realistic = restorer.sampled(up.permute(2, 0, 1)[None] / 255, None, lambda: noise.permute(2, 0, 1)[None])
    assert not torch.allclose(found, realistic[0].permute(1, 2, 0), atol=1e-3)


def test_other_images_than_it_was_made_with(graph, weights):
    rng = np.random.default_rng(1)
    images = {name: rng.integers(256, size=(32, 32, 3), dtype=np.uint8) for name in ("up", "reference", "degraded")}
    inputs = images | {"noise": rng.standard_normal((32, 32, 3), dtype=np.float32)}
    (found,) = onnxruntime.InferenceSession(graph).run(["sr"], inputs)
    stored = checkpoint.load(weights)
    restoration = Restoration(
        Options.model_validate(stored.options), stored.weights(), weights, steps=2, strength=1.0, fidelity=0.0
    )
    with torch.no_grad():
        expected = restoration(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std() > 0.05


def test_the_graph_names_no_file_of_this_machine(graph):
    onnx.checker.check_model(graph)
    assert str(ROOT).encode() not in graph.read_bytes()


def test_the_script_runs_it_without_pytorch(graph, tmp_path):
    rng = np.random.default_rng(2)
    for name, side in (("lr", 8), ("reference", 32)):
        Image.fromarray(rng.integers(256, size=(side, side, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    script = ROOT / "scripts" / "run_onnx.py"
    words = [graph, tmp_path / "lr.png", tmp_path / "sr.png", tmp_path / "reference.png"]
    blocked = f"import runpy, sys; sys.modules['torch'] = None; sys.argv = {[str(script), *map(str, words)]!r}"
    run = f"{blocked}; runpy.run_path(sys.argv[0], run_name='__main__')"
    subprocess.run([sys.executable, "-c", run], check=True)
    with Image.open(tmp_path / "sr.png") as sr:
        assert sr.size == (32, 32)


def test_the_script_tells_what_does_not_fit(graph, tmp_path):
    rng = np.random.default_rng(2)
    lr, wide, out = tmp_path / "lr.png", tmp_path / "wide.png", tmp_path / "sr.png"
    Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(lr)
    Image.fromarray(rng.integers(256, size=(8, 12, 3), dtype=np.uint8)).save(wide)

    def told(*words):
        run = [sys.executable, str(ROOT / "scripts" / "run_onnx.py"), *map(str, words)]
        return subprocess.run(run, capture_output=True, text=True, check=False)

    assert "takes a reference" in told(graph, lr, out).stderr
    assert "12 x 8 pixels, expected 8 x 8" in told(graph, wide, out, lr).stderr
    assert told(graph, lr).stderr.startswith("A graph of `ttrd3 export`")
    assert not out.exists()


def test_strength_0_makes_a_graph_without_a_reference(weights, tmp_path, capsys):
    path = tmp_path / "alone.onnx"
    words = ["--tile", "16", "--steps", "1", "--strength", "0"]
    assert main(["export", "--onnx", str(path), "--weights", str(weights), *words]) == 0
    assert [i.name for i in onnxruntime.InferenceSession(path).get_inputs()] == ["up", "noise"]
    assert "differs from PyTorch" in capsys.readouterr().out


def test_the_small_network_with_an_encoder_of_one_level(tmp_path, capsys):
    """The command compares what onnxruntime makes of it with PyTorch."""
    options = load_options([str(ROOT / "options" / "quickstart.yml"), *TINY, *SMALL, "sampling.steps=1"])
    weights, path = tmp_path / "small.safetensors", tmp_path / "small.onnx"
    checkpoint.save_state(weights, build.build_model(options.model, options.diffusion).state_dict(), options, 3)
    assert main(["export", "--onnx", str(path), "--weights", str(weights), "--tile", "32"]) == 0
    assert len(onnxruntime.InferenceSession(path).get_inputs()) == 4
    assert "differs from PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize(("own", "words"), [(0.25, ()), (0.5, ("--fidelity", "1"))])
def test_networks_that_are_told_fidelity(tmp_path, own, words):
    """The graph's network and sampler share fidelity as `val`'s do; what the network is told counts."""
    told = ("model.unet.noise_blocks=1", "model.unet.told_fidelity=true", f"sampling.fidelity={own}")
    options = load_options([str(ROOT / "options" / "quickstart.yml"), *TINY, *SMALL, *told, "sampling.steps=2"])
    weights, path = tmp_path / "told.safetensors", tmp_path / "told.onnx"
    torch.manual_seed(0)
    model = build.build_model(options.model, options.diffusion)
    with torch.no_grad():
        for parameter in model.unet.noise.parameters():  # told nothing before any training
            parameter.normal_(std=0.1)
    checkpoint.save_state(weights, model.state_dict(), options, 3)
    asked = ["--weights", str(weights), "--tile", "32", "--strength", "0", *words]
    assert main(["export", "--onnx", str(path), *asked]) == 0
    rng = np.random.default_rng(3)
    up, noise = rng.integers(256, size=(32, 32, 3), dtype=np.uint8), rng.standard_normal((32, 32, 3), dtype=np.float32)
    (found,) = onnxruntime.InferenceSession(path).run(["sr"], {"up": up, "noise": noise})
    restorer = make_restorer(options, model.eval(), build.build_process(options.diffusion))
    restorer.fidelity = float(words[-1]) if words else own

    def expected():
        image, start = (torch.from_numpy(array).permute(2, 0, 1)[None] for array in (up / np.float32(255), noise))
        return restorer.sampled(image, None, lambda: start)[0].permute(1, 2, 0).numpy()

    np.testing.assert_allclose(found, expected(), atol=1e-5)
    restorer.fidelity = 0.0
    assert np.abs(found - expected()).max() > 0.01


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tile", "30"], "--tile: found 30, expected a multiple of"),
        (["--steps", "11"], "--steps: found 11, expected at most 10"),
    ],
)
def test_mistakes(weights, tmp_path, capsys, words, message):
    path = tmp_path / "graph.onnx"
    assert main(["export", "--onnx", str(path), "--weights", str(weights), *words]) == 2
    assert message in capsys.readouterr().err
    assert not path.exists()


def test_what_is_exported_instead_of_embedding_bag_equals_it(monkeypatch):
    table = torch.cat([torch.randn(9, 5), torch.zeros(1, 5)])
    index, weights = torch.randint(10, (7, 12)), torch.rand(7, 12)
    expected = _gather_sum(table, index, weights, nowhere=9)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(_gather_sum(table, index, weights, nowhere=9), expected)
