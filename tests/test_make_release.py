"""scripts/make_release.py: 16 bits, the options inside, and mixing with the weights that training started from."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from ttrd3 import config
from ttrd3.engine.checkpoint import save_state
from ttrd3.engine.options import Options
from ttrd3.errors import UserError
from ttrd3.inference.weights import load

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "weights" / "ttrd3-s.safetensors"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_release", ROOT / "scripts" / "make_release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """The shipped weights twice as large, but for one of another shape in the second file."""
    stored, folder = load(SHIPPED), tmp_path_factory.mktemp("doubled")
    options = config.validate(Options, config.Document(stored.options, str(SHIPPED)))
    twice = {name: 2 * value.float() for name, value in stored.weights().items()}
    save_state(folder / "doubled.safetensors", twice, options, 7)
    save_state(folder / "other.safetensors", twice | {"unet.head.bias": torch.zeros(5)}, options, 7)
    return folder


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    def run(*args):
        monkeypatch.setattr(sys, "argv", ["make_release.py", str(SHIPPED), "--out", str(tmp_path / "out"), *args])
        script.main()
        return load(tmp_path / "out")

    return run


def test_settings_go_into_the_options_and_weights_stay(run, capsys):
    made, shipped = run("sampling.fidelity=0.25", "name=other"), load(SHIPPED)
    assert made.options["sampling"]["fidelity"] == 0.25
    assert made.options["name"] == "other"
    assert made.options["model"] == shipped.options["model"]
    weights = shipped.weights()
    assert all(torch.equal(value, weights[name]) for name, value in made.weights().items())
    assert "largest change 0.0e+00" in capsys.readouterr().out  # they had 16 bits already


def test_a_mix_of_all_but_the_parts_named(run, doubled):
    made = run("--mix", str(doubled / "doubled.safetensors"), "0.25", "--but", "unet.noise").weights()
    mixed = 0
    for name, value in load(SHIPPED).weights().items():
        kept = name.startswith("unet.noise.")
        mixed += not kept
        torch.testing.assert_close(made[name].float(), (1.0 if kept else 1.25) * value.float(), rtol=1e-3, atol=1e-6)
    assert 0 < mixed < len(made)


@pytest.mark.parametrize("share", ["1.5", "much"])
def test_a_share_that_is_none(run, doubled, share):
    with pytest.raises(UserError, match=rf"found the share {share}, expected a number from 0 to 1"):
        run("--mix", str(doubled / "doubled.safetensors"), share)


def test_parts_that_are_not_mixed_where_nothing_is(run, capsys):
    with pytest.raises(SystemExit):
        run("--but", "unet.noise")
    assert "give --mix BASE SHARE too" in capsys.readouterr().err


def test_a_part_that_is_not_there_and_weights_of_another_network(run, doubled):
    with pytest.raises(UserError, match=r"--but: the network has no part unet\.nois;"):
        run("--mix", str(doubled / "doubled.safetensors"), "0.5", "--but", "unet.nois")
    with pytest.raises(
        UserError, match=r"other\.safetensors: not of the same network: unet\.head\.bias is \(5,\), exp"
    ):
        run("--mix", str(doubled / "other.safetensors"), "0.5")
