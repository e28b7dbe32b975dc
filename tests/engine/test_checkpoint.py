"""Weights and checkpoints: round trips, and every kind of bad file."""

import pytest
import torch
from safetensors.torch import save_file

from ttrd3.engine import checkpoint
from ttrd3.engine.build import build_model
from ttrd3.engine.trainer import Trainer
from ttrd3.errors import CheckpointError, UserError
from ttrd3.files import PARTIAL, replacing

ENCODERS = [
    "model.encoder={type: MFAB, widths: [8, 8, 8], hidden: 4, blocks: 1}",
    "model.encoder={type: MFAB, block: released, widths: [8, 16, 24], hidden: 8, blocks: 2}",
]
TRANSFERS = [
    "model.transfer={type: STTG, selection: fixed, matches: [1, 2, 3]}",
    "model.transfer={type: STTG, matches: [3, 2, 1]}",
]
UNETS = [
    "{type: 1Net-A, width: 8, multipliers: [1, 1, 2]}",
    "{type: 1Net-B, width: 8}",
    "{type: 2Net, width: 16}",
    "{type: S, widths: [8, 12], encoder_blocks: [1, 2], decoder_blocks: [2]}",
]


@pytest.mark.parametrize("unet", UNETS)
@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_save_and_load_over_hyper_parameters(tiny, tmp_path, encoder, transfer, unet):
    options = tiny(encoder, transfer, f"model.unet={unet}")
    model = build_model(options.model, options.diffusion)
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, checkpoint.EMA(model, 0.9), options, step=7)
    other = build_model(options.model, options.diffusion)
    stored = checkpoint.load_weights(other, path, options)
    assert stored.step == 7
    assert stored.options == options.model_dump(mode="json")
    images = [torch.rand(1, 3, 32, 32) for _ in range(4)]
    arguments = (images[0], torch.tensor([5]), *images[1:])
    for a, b in zip(model(*arguments), other(*arguments), strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def run(tiny):
    trainer = Trainer(tiny("train.steps=2"))
    trainer.run()
    return trainer


def test_a_checkpoint_serves_as_weights_too(run, tiny):
    newest = run.folder.checkpoints()[0]
    weights, state = checkpoint.load(run.folder.weights).weights(), checkpoint.load(newest).weights()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], state[name]) for name in weights)


def test_bad_files_are_told_apart(run, tiny, tmp_path):
    weights = run.folder.weights.read_bytes()
    cases = {
        "missing": (None, "there is no such file"),
        "empty": (b"", "no safetensors file, or a damaged one"),
        "cut": (weights[: len(weights) // 2], "no safetensors file, or a damaged one"),
        "header": (weights[:50], "no safetensors file, or a damaged one"),
        "text": (b"hello" * 1000, "no safetensors file, or a damaged one"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message) as error:
            checkpoint.load(path)
        assert str(path) in str(error.value)
    with pytest.raises(CheckpointError, match="it is a folder"):
        checkpoint.load(tmp_path)
    torch.save({"model": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        checkpoint.load(tmp_path / "model.pt")
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="of another program"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    header = {"kind": checkpoint.WEIGHTS, "format": "99", "ttrd3": "9.9", "options": "{}", "step": "0", "updates": "0"}
    save_file({"a": torch.zeros(3)}, tmp_path / "future.safetensors", header)
    with pytest.raises(CheckpointError, match=r"format 99, written by ttrd3 9\.9.*Update"):
        checkpoint.load(tmp_path / "future.safetensors")


def test_parameters_that_do_not_fit_are_named(run, tiny, tmp_path):
    stored = checkpoint.load(run.folder.weights)
    name = next(iter(stored.tensors))
    lacking = {key: value for key, value in stored.tensors.items() if key != name}
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load_state(run.stepper.model, lacking, run.folder.weights)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(error):
        with replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise error

    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error):
            write(error)
        assert path.read_bytes() == b"old"
    assert not list(tmp_path.glob(f"*{PARTIAL}"))
    with pytest.raises(UserError, match="cannot be written"), replacing(path / "below" / "b"):
        pass
