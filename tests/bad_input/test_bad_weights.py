"""Weights and checkpoints that nobody can use: `weights=FILE`, `train.start_from=FILE`, and resuming."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ttrd3.__main__ import main


def header_of(path) -> dict[str, str]:
    """Without the checksum, as other programs leave it that rewrite a file."""
    with safe_open(path, framework="pt") as file:
        return {key: value for key, value in file.metadata().items() if key != "checksum"}


def write_half(path, weights):
    path.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def write_flipped(path, weights):
    content = bytearray(weights.read_bytes())
    content[-2] ^= 64  # one bit of the last tensor
    path.write_bytes(content)


def write_foreign(path, weights):
    save_file({"conv.weight": torch.zeros(3)}, path)


def write_pickle(path, weights):
    torch.save({"conv.weight": torch.zeros(3)}, path)


def write_without_first(path, weights):
    tensors = load_file(weights)
    del tensors[min(tensors)]
    save_file(tensors, path, header_of(weights))


def write_nan(path, weights):
    tensors = load_file(weights)
    tensors[min(tensors)].fill_(float("nan"))
    save_file(tensors, path, header_of(weights))


def write_header(**changes):
    def write(path, weights):
        kept = {key: value for key, value in (header_of(weights) | changes).items() if value is not None}
        save_file(load_file(weights), path, kept)

    return write


BAD = {
    "missing": (lambda path, weights: None, "there is no such file"),
    "folder": (lambda path, weights: path.mkdir(), "it is a folder"),
    "empty": (lambda path, weights: path.write_bytes(b""), "is no safetensors file, or a damaged one"),
    "truncated": (write_half, "is no safetensors file, or a damaged one"),
    "flipped": (write_flipped, "its content was altered after it was written (checksum)"),
    "pickle": (write_pickle, "is no safetensors file, or a damaged one"),
    "foreign": (write_foreign, "is a safetensors file of another program"),
    "tensor missing": (write_without_first, "does not fit the networks of the options: Missing key(s)"),
    "not finite": (write_nan, "hold values that are no finite numbers"),
    "future": (write_header(format="99"), "has format 99"),
    "no format": (write_header(format=None), "its header was altered or is damaged"),
    "broken options": (write_header(options="{"), "its header was altered or is damaged"),
    "other options": (write_header(options="[1]"), "its header was altered or is damaged"),
    "broken step": (write_header(step="many"), "its header was altered or is damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_for_validation_and_for_a_start(refused, tiny_words, trained, tmp_path, case):
    write, text = BAD[case]
    path = tmp_path / "some weights.safetensors"
    write(path, trained / "weights.safetensors")
    for words in (
        tiny_words("val", f"weights={path}", "name=new"),
        tiny_words("train", f"train.start_from={path}", "name=new"),
    ):
        message = refused(*words)
        assert message.startswith(f"{path}: ")
        assert text in message


def test_another_architecture(refused, tiny_words, trained):
    weights = trained / "weights.safetensors"
    for words in (
        tiny_words("val", "model.unet.width=16"),
        tiny_words("train", "model.unet.width=16", "train.steps=6"),
        tiny_words("train", "model.unet.width=16", f"train.start_from={weights}", "name=new"),
    ):
        message = refused(*words)
        assert "belongs to another architecture than the options describe" in message
        assert "model.unet.width: 8 in the file, 16 in the options" in message
        assert "Set these options to the file's values" in message


def test_validation_before_training(refused, tiny_words):
    message = refused(*tiny_words("val"))
    assert "runs/quickstart/weights.safetensors: there are no weights yet. Train them (`sh train.sh`" in message


def test_a_damaged_newest_checkpoint(tiny_words, trained, capsys):
    newest = trained / "checkpoints" / "step-00000004.safetensors"
    write_half(newest, newest)
    assert main(tiny_words("train")) == 0
    err = capsys.readouterr().err
    assert f"{newest}: is no safetensors file, or a damaged one" in err
    assert "falls back to the checkpoint before, step-00000002.safetensors" in err
    assert "goes on from step 2 of 4" in err


def test_damaged_checkpoints_alone(refused, tiny_words, trained):
    for path in (trained / "checkpoints").iterdir():
        path.write_bytes(b"")
    message = refused(*tiny_words("train"))
    assert all(f"{path}: is no safetensors file" in message for path in (trained / "checkpoints").iterdir())
    assert f"No checkpoint of this run is whole. To start it anew, delete {trained}/checkpoints" in message


def test_weights_in_the_place_of_a_checkpoint(tiny_words, trained, capsys):
    newest = trained / "checkpoints" / "step-00000004.safetensors"
    shutil.copy(trained / "weights.safetensors", newest)
    assert main(tiny_words("train")) == 0
    assert f"{newest}: holds weights alone, expected a checkpoint" in capsys.readouterr().err


def test_fewer_steps_than_were_trained(refused, tiny_words, trained):
    message = refused(*tiny_words("train", "train.steps=3"))
    assert "is at step 4, but train.steps is 3. Raise train.steps, or choose another name" in message


def test_a_refused_validation_leaves_the_former_results(refused, tiny_words, trained):
    results = trained / "validation" / "step-00000004" / "results.json"
    before = json.loads(results.read_text())
    refused(*tiny_words("val", "data.val.crop=512"))
    assert json.loads(results.read_text()) == before
