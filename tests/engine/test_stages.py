"""`train.start_from: FILE.yml`: one command trains what the file says, then goes on from its weights."""

import pytest
import torch
from safetensors.torch import load_file

from ttrd3 import config
from ttrd3.__main__ import main
from ttrd3.engine import launch
from ttrd3.engine.options import load_options
from ttrd3.engine.run_folder import RunFolder
from ttrd3.engine.stages import stages
from ttrd3.errors import ConfigError
from ttrd3.files import write_text


@pytest.fixture
def files(tiny, tmp_path):
    """`files(*settings)` -> (second options file, options of both); settings are of the second alone."""

    def make(*settings):
        first, second = tmp_path / "first.yml", tmp_path / "second.yml"
        short = ("train.steps=1", "val.pictures=0", "val.save_images=false")
        both = tiny(*short, "name=first"), tiny(*short, "name=second", f"train.start_from={first}", *settings)
        for path, options in zip((first, second), both, strict=True):
            write_text(path, config.to_yaml(options))
        return second, *both

    return make


def test_one_command_trains_both_and_its_repetition_neither(files):
    file, first, second = files("train.learning_rate=1e-9")
    assert main(["-q", "train", str(file)]) == 0
    weights = [load_file(RunFolder(options).weights) for options in (first, second)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6)
    log = RunFolder(second).log.read_text()
    assert f"starts from {RunFolder(first).weights} (step 1)" in log
    before = [RunFolder(options).log.read_text().count("step 1 of 1") for options in (first, second)]
    assert main(["-q", "train", str(file)]) == 0
    assert [RunFolder(options).log.read_text().count("step 1 of 1") for options in (first, second)] == before == [1, 1]


def test_options_without_a_file_are_one_training(tiny):
    options = tiny("train.start_from=weights.safetensors")
    assert stages(options) == [options]


def test_a_circle_is_told(files, tmp_path):
    file, first, second = files()
    train = first.train.model_copy(update={"start_from": str(file)})
    write_text(tmp_path / "first.yml", config.to_yaml(first.model_copy(update={"train": train})))
    with pytest.raises(ConfigError, match=r"second\.yml, whose run folder is .*second as well"):
        stages(second)


def test_other_networks_are_told_before_anything_is_trained(files):
    _, first, second = files("model.unet.width=16")
    with pytest.raises(ConfigError, match=r"model\.unet\.width: found 16, but .*first\.yml.* has 8"):
        stages(second)
    assert not RunFolder(first).path.exists()


def test_the_earlier_training_takes_what_the_command_line_says_of_places_and_machine(files, tmp_path):
    file, _, _ = files()
    words = [str(file), f"output={tmp_path / 'elsewhere'}", "train.precision=bfloat16", "train.learning_rate=0.5"]
    first, second = stages(load_options(words), words)
    for options in (first, second):
        assert options.output == str(tmp_path / "elsewhere")
        assert options.train.precision == "bfloat16"
    assert second.train.learning_rate == 0.5 != first.train.learning_rate
    assert second.train.start_from == str(tmp_path / "elsewhere" / "first" / "weights.safetensors")


def test_what_the_later_training_lacks_is_told_before_the_earlier_begins(files, tmp_path, capsys):
    missing = tmp_path / "vgg.pth"
    loss = f"losses=[{{type: restored, norm: l1}}, {{type: perceptual, file: {missing}}}]"
    file, first, _ = files(loss)
    assert main(["-q", "train", str(file)]) == 2
    assert str(missing) in capsys.readouterr().err
    assert not RunFolder(first).path.exists()


def test_every_training_shares_its_batch_among_the_processes(files):
    file, *_ = files("train.batch_size=4", "train.processes=4")
    trainings = stages(load_options([str(file)]))
    with pytest.raises(ConfigError, match=r"batch_size: found 2, but train\.processes is 4.* of the run first\."):
        launch.processes(trainings)
