"""Option files and settings that nobody can use."""

import pytest

from ttrd3.__main__ import main
from ttrd3.environment import ROOT

QUICK = "options/quickstart.yml"

SETTINGS = {
    "unknown": (["train.stepz=3"], "command line (train.stepz=3): train.stepz is not an option. Did you mean steps?"),
    "text for a number": (["train.steps=many"], "train.steps: found 'many' (text), expected a valid integer"),
    "fraction for a count": (["train.steps=3.5"], "train.steps: found 3.5, expected a valid integer"),
    "out of bounds": (["train.batch_size=-1"], "train.batch_size: found -1, expected greater than or equal to 1"),
    "infinite": (["train.learning_rate=1e999"], "train.learning_rate: found inf, expected a finite number"),
    "number for a section": (["train=3"], "train: found 3, expected a section with options"),
    "nothing for a section": (["model.unet=null"], "model.unet: found nothing, expected a section with options"),
    "short list": (["train.betas=[0.9]"], "train.betas: found a list, expected at least 2 entries"),
    "long list": (["model.encoder.widths=[8,8,8,8]"], "model.encoder.widths: found a list, expected at most 3 entries"),
    "negative weight": (["losses.0.weight=-1"], "losses.0.weight: found -1, expected greater than or equal to 0"),
    "text for a weight": (["losses.0.weight=high"], "losses.0.weight: found 'high' (text), expected a valid number"),
    "weight without a step": (
        ["losses.0.weight=[[5]]"],
        "losses.0.weight.0: found a list, expected at least 2",
    ),
    "a step twice": (
        ["losses.0.weight=[[5, 1], [5, 2]]"],
        "losses.0.weight: found step 5 twice, expected each step once",
    ),
    "step without a weight": (["losses.0.weight=[[0, -1]]"], "losses.0.weight.0.1: found -1, expected greater than or"),
    "name with a space": (["name=my run"], "name: found 'my run' (text), expected text of the form"),
    "spaces around =": (["train.steps", "=", "3"], "A setting is one word with = and no spaces"),
    "two dots": (["train..steps=3"], "found 'train..steps=3', expected section.key=value"),
    "file twice": (
        [QUICK],
        "found 2 option files (options/quickstart.yml, options/quickstart.yml), expected at most one",
    ),
    "a time without losses": (
        ["losses=[{type: posterior, weight: [[0, 1], [7, 0]]}, {type: restored, weight: [[9, 1]]}]"],
        "losses: all weights are 0 from step 7 on, so there is nothing to train",
    ),
    "nothing left to teach": (
        ["train.detach_residual=true", "diffusion.objective=pred_x0_noise"],
        "train.detach_residual: found true, expected false with the objective pred_x0_noise",
    ),
    "no residual to teach": (
        ["train.self_ensemble=0.9", "losses=[{type: l1, of: noise}, {type: restored}]"],
        "train.self_ensemble: found 0.9, but no loss looks at the residual. Add {type: l1, of: residual} to the losses",
    ),
    "a residual that never counts": (
        ["train.self_ensemble=0.9", "losses=[{type: l1, of: noise}, {type: l1, of: residual, weight: [[99999, 1]]}]"],
        "train.self_ensemble: found 0.9, but no loss looks at the residual.",
    ),
    "no such split": (["data.val.split=all"], "data.val.split: found 'all' (text), expected 'train', 'val', 'test' or"),
}


@pytest.mark.parametrize("command", ["train", "val", "config"])
@pytest.mark.parametrize("case", SETTINGS)
def test_settings(refused, command, case):
    words, text = SETTINGS[case]
    assert text in refused(command, QUICK, *words)


NETWORKS = {
    "matches of another length": (["model.transfer.matches=[1, 1]"], "found [1, 1], expected 3 numbers, one for each"),
    "the paper's UNet with fewer levels": (
        ["model.encoder.widths=[8]", "model.transfer.matches=[1]"],
        "model.encoder.widths: found 1 levels, expected 3",
    ),
    "blocks of S": (
        ["model.unet={type: S, widths: [8, 8]}"],
        "model.unet: found 2 widths, 3 encoder_blocks and 2 decoder_blocks",
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_networks_that_do_not_fit_together(refused, tiny_words, case):
    words, text = NETWORKS[case]
    assert text in refused(*tiny_words("train", *words))


def test_several_mistakes_are_told_together(refused):
    message = refused("train", QUICK, "train.stepz=3", "seed=x", "model.unet.width=wide")
    assert len(message.splitlines()) == 3


FILES = {
    "not UTF-8": ("name: caf\xe9\n".encode("latin-1"), "cannot be read as UTF-8 text (byte 9 is none), expected YAML"),
    "UTF-16": ("name: a\n".encode("utf-16"), "Save the options file as UTF-8"),
    "binary": (b"\x00\x01" * 50, "not valid YAML: unacceptable character #x0000"),
    "tab": (b"name: a\n\tseed: 1\n", ":2: not valid YAML: found character '\\t'"),
    "list as a name": (b"name: a\n? [b]\n: 1\n", ":2: found a list or section as an option's name"),
    "template": (b"name: {{name}}\n", ":1: found a list or section as an option's name, expected a word. Quote"),
    "number as a name": (b"name: a\n1: 2\n", ":2: found '1' as an option's name"),
    "tag": (b"name: a\nseed: !!int ten\n", ":2: not valid YAML: found 'ten', expected a number"),
    "in itself": (b"name: &x [*x]\n", "nested too deeply, or hold themselves"),
    "deep": (b"name: " + b"[" * 3000, "nested too deeply"),
    "two documents": (b"name: a\n---\nname: b\n", ":2: not valid YAML"),
    "empty": (b"", "found nothing at the top, expected sections"),
}


@pytest.mark.parametrize("case", FILES)
def test_files(refused, tmp_path, case):
    content, text = FILES[case]
    path = tmp_path / "with space.yml"
    path.write_bytes(content)
    message = refused("train", path)
    assert message.startswith(str(path))
    assert text in message


def test_a_folder_as_options_file(refused):
    message = refused("train", ROOT / "options")
    assert "options: is a folder, expected an options file. Option files there: " in message
    assert "quickstart.yml" in message


def test_a_missing_file_is_answered_with_those_that_are_there(refused, tmp_path):
    assert f"Did you mean {ROOT / 'options/quickstart.yml'}?" in refused("train", "quickstart")
    assert f"{tmp_path / 'x.yml'}: no such options file" in refused("val", tmp_path / "x.yml")


def test_the_options_that_a_run_left_are_an_options_file(trained, capsys):
    assert main(["config", str(trained / "options.yml")]) == 0
    assert capsys.readouterr().out == (trained / "options.yml").read_text()


def test_spaces_around_a_name_are_no_mistake(capsys):
    assert main(["config", QUICK, "train.steps =7"]) == 0
    assert "  steps: 7\n" in capsys.readouterr().out
