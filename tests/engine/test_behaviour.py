"""Options that may differ from the weights' own: each changes the result, is told, and is refused only for a reason."""

import logging

import pytest
import torch

from ttrd3.engine import checkpoint
from ttrd3.engine.behaviour import BEHAVIOUR
from ttrd3.engine.build import build_model
from ttrd3.engine.trainer import Trainer
from ttrd3.engine.validation import validate_weights
from ttrd3.errors import CheckpointError
from ttrd3.networks.sttg import at_least

LEARNED = "model.transfer={type: STTG, selection: learned, matches: [4, 3, 2], normalization: overlap}"
FIXED = "model.transfer={type: STTG, selection: fixed, matches: [4, 3, 2], normalization: overlap}"
CHANGES = {
    "model.encoder.value_range": "released",
    "model.transfer.selection": "fixed",
    "model.transfer.matches": "[2, 1, 1]",
    "model.transfer.normalization": "released",
}


@pytest.fixture
def weights(tiny, tmp_path):
    """`weights(transfer)` -> a file of a tiny model with that transfer, its chances of K unequal."""

    def make(transfer):
        options = tiny(transfer)
        torch.manual_seed(1)
        model = build_model(options.model, options.diffusion)
        for logits in model.transfer.k_logits:
            if logits is not None:
                torch.nn.init.normal_(logits)
        path = tmp_path / "w.safetensors"
        checkpoint.save_state(path, model.state_dict(), options, step=5)
        return path

    return make


def load(path, options):
    model = build_model(options.model, options.diffusion).eval()
    checkpoint.load_weights(model, path, options)
    return model


def textures(model):
    generator = torch.Generator().manual_seed(2)
    images = [torch.rand(1, 3, 16, 16, generator=generator) for _ in range(3)]
    with torch.inference_mode():
        return torch.cat([texture.flatten() for texture in model.encode(*images)])


def test_the_changes_below_are_all_there_are():
    assert CHANGES.keys() == BEHAVIOUR


@pytest.mark.parametrize("name", CHANGES)
def test_each_changes_the_textures_and_is_told(weights, tiny, caplog, name):
    path = weights(LEARNED)
    with caplog.at_level(logging.WARNING, "ttrd3"):
        own = textures(load(path, tiny(LEARNED)))
        assert not caplog.messages
        changed = textures(load(path, tiny(LEARNED, f"{name}={CHANGES[name]}")))
    assert not torch.allclose(own, changed)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: made with {name}=")
    assert message.endswith(f", used with {CHANGES[name]}")


def test_the_result_is_that_of_a_model_with_these_options(weights, tiny):
    """Weights of a learned K, used with a fixed one, are as if they had been made with that."""
    path = weights(LEARNED)
    stored = checkpoint.load(path)
    model = build_model(tiny(FIXED).model, tiny(FIXED).diffusion).eval()
    model.load_state_dict({name: value for name, value in stored.tensors.items() if "k_logits" not in name})
    assert torch.equal(textures(load(path, tiny(FIXED))), textures(model))


def test_fewer_matches_take_the_chances_of_a_k_that_is_no_larger(weights, tiny):
    path = weights(LEARNED)
    model = load(path, tiny(LEARNED, "model.transfer.matches=[3, 3, 1]"))
    chances = checkpoint.load(path).tensors["transfer.k_logits.0"].softmax(0)
    k_given_at_most_3 = chances[:3] / chances[:3].sum()
    at_least_2 = float(k_given_at_most_3[1:].sum())
    assert at_least(model.transfer.k_logits[0])[1].item() == pytest.approx(at_least_2, rel=1e-5)
    assert [len(logits) for logits in model.transfer.k_logits] == [3, 3, 1]


def test_chances_that_the_file_has_not(weights, tiny):
    path = weights(LEARNED)
    with pytest.raises(CheckpointError, match=r"matches: found 4 at level 2, but these weights hold .* K = 1 to 3"):
        load(path, tiny(LEARNED, "model.transfer.matches=[4, 4, 2]"))
    path = weights(FIXED)
    with pytest.raises(CheckpointError, match=r"selection: found learned, but these weights.*no chances of K. Set it"):
        load(path, tiny(LEARNED))
    load(path, tiny(FIXED, "model.transfer.matches=[5, 5, 5]"))  # a fixed K is free


def test_validations_of_changed_behaviour_stand_side_by_side(weights, tiny):
    path = weights(LEARNED)
    folders, tables = [], []
    for settings in ((), ("model.transfer.matches=[1, 1, 1]",), ("model.transfer.normalization=released",)):
        found, folder = validate_weights(tiny(LEARNED, f"weights={path}", "data.val.limit=1", *settings))
        folders.append(folder)
        tables.append(found.results.table(found.protocol))
        assert folder.is_dir()
    assert [folder.name.removeprefix(folders[0].name) for folder in folders] == [
        "", "-matches-1.1.1", "-normalization-released"
    ]  # fmt: skip
    assert "model.transfer.matches" not in tables[0]
    assert "model.transfer.matches [1, 1, 1] (weights: [4, 3, 2])" in " ".join(tables[1].split())
    assert "model.transfer.normalization released (weights: overlap)" in " ".join(tables[2].split())


def test_a_new_run_may_start_from_them_but_a_run_is_resumed_as_it_was(weights, tiny, caplog):
    path = weights(LEARNED)
    with caplog.at_level(logging.WARNING, "ttrd3"):
        run = Trainer(tiny(FIXED, f"train.start_from={path}", "train.steps=2"))
    assert any("made with model.transfer.selection=learned, used with fixed" in text for text in caplog.messages)
    assert torch.equal(run.stepper.model.encoder.first.weight, checkpoint.load(path).tensors["encoder.first.weight"])
    run.run()
    with pytest.raises(CheckpointError, match=r"model.transfer.normalization: 'overlap' in the file, 'released' in"):
        Trainer(tiny(FIXED, "model.transfer.normalization=released", "train.steps=3"))
