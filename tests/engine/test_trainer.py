"""Training for real, at a tiny size."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from helpers import TINY, listen_to_ctrl_c, relative_error
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ttrd3.__main__ import main
from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.engine import checkpoint
from ttrd3.engine.ema import EMA
from ttrd3.engine.learning_rate import FLOOR, learning_rate
from ttrd3.engine.loading import TrainingSamples, batches, training_loader
from ttrd3.engine.logs import Progress
from ttrd3.engine.trainer import Trainer
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError, ConfigError


def weights_of(folder):
    return load_file(folder / "weights.safetensors")


def test_a_run_leaves_everything_behind(tiny):
    options = tiny("train.validate_every=2")
    trainer = Trainer(options)
    found = trainer.run()
    folder = trainer.folder.path
    assert yaml.safe_load((folder / "options.yml").read_text()) == options.model_dump(mode="json")
    record = json.loads((folder / "environment.json").read_text())
    (record,) = record
    assert record["seed"] == options.seed
    assert record["packages"]["torch"] == torch.__version__.split("+")[0]
    assert "step 4 of 4: loss" in (folder / "train.log").read_text()
    assert [p.name for p in trainer.folder.checkpoints()] == ["step-00000004.safetensors", "step-00000002.safetensors"]
    for step in (2, 4):
        results = json.loads((folder / f"validation/step-0000000{step}/results.json").read_text())
        assert results["images"] == 3
        assert set(results["bicubic"]) == set(results["ttrd3"]) == {"psnr", "ssim", "consistency"}
    assert found.results.overall()["ttrd3"] == results["ttrd3"]
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"loss/total", "loss/l1_residual", "train/images_per_second", "validation/psnr/ttrd3"} <= scalars
    assert len(events.Tags()["images"]) == 1
    assert not list(folder.rglob("*.partial"))


def test_the_total_is_the_weighted_sum_of_the_terms(tiny):
    trainer = Trainer(tiny())
    samples = TrainingSamples(trainer.data, 1000, seed=1)
    values = trainer.stepper.step(0, [next(batches(training_loader(samples, 2, 0, 0, pin=False)))]).values
    total = sum(loss.weight * values[f"loss/{loss.name}"] for loss in trainer.stepper.losses)
    assert values["loss/total"] == pytest.approx(total, rel=1e-5)


def test_training_learns(tiny):
    """On one sample, over and over, the loss must fall far: gradients, targets and optimiser fit together."""
    trainer = Trainer(tiny("train.learning_rate=3e-3", "train.steps=1000", "train.schedule=constant"))
    batch = next(batches(training_loader(TrainingSamples(trainer.data, 1000, seed=1), 2, 0, 0, pin=False)))
    values = [trainer.stepper.step(0, [batch]).values["loss/total"] for _ in range(60)]
    assert min(values[-10:]) < 0.6 * values[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_and_samples(tiny, objective):
    outputs = OBJECTIVES[objective].outputs
    losses = ", ".join(f"{{type: l1, of: {of}}}" for of in outputs)
    trainer = Trainer(
        tiny(f"diffusion.objective={objective}", f"losses=[{losses}, {{type: posterior}}]", "train.steps=1")
    )
    found = trainer.run()
    assert all(math.isfinite(v) for v in found.results.overall()["ttrd3"].values())


@pytest.mark.parametrize("unet", ["1Net-B", "2Net"])
def test_the_other_variants_train(tiny, unet):
    trainer = Trainer(tiny(f"model.unet.type={unet}", "train.steps=1"))
    assert trainer.run().results.overall()["ttrd3"]["psnr"] > 0


def test_accumulation_equals_the_larger_batch(tiny):
    """Two passes of two are one pass of four: the samples are the same, numbered through."""
    states = []
    for batch, accumulation in ((4, 1), (2, 2)):
        trainer = Trainer(tiny(f"train.batch_size={batch}", f"train.accumulation={accumulation}", f"name=b{batch}"))
        trainer.run()
        states.append(weights_of(trainer.folder.path))
    # As a whole: Adam blows rounding up to the learning rate where a gradient is nearly zero.
    whole, parts = (torch.cat([state[name].flatten() for name in states[0]]) for state in states)
    assert relative_error(parts, whole) < 1e-3


def test_workers_change_nothing(tiny):
    states = []
    for workers in (0, 2):
        trainer = Trainer(tiny(f"train.workers={workers}", f"name=w{workers}", "train.steps=2"))
        trainer.run()
        states.append(weights_of(trainer.folder.path))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_in_two_parts_equals_one_run(tiny):
    whole = Trainer(tiny("name=whole", "train.schedule=constant"))
    whole.run()
    first = Trainer(tiny("name=parts", "train.schedule=constant", "train.steps=2"))
    first.run()
    second = Trainer(tiny("name=parts", "train.schedule=constant"))
    assert second.step == 2
    second.run()
    expected, found = weights_of(whole.folder.path), weights_of(second.folder.path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_finished_run_is_not_trained_again(tiny):
    Trainer(tiny()).run()
    again = Trainer(tiny())
    before = {path: path.stat().st_mtime_ns for path in again.folder.path.rglob("*.safetensors")}
    assert again.run() is None
    assert {path: path.stat().st_mtime_ns for path in again.folder.path.rglob("*.safetensors")} == before


def test_going_back_is_refused(tiny):
    Trainer(tiny()).run()
    with pytest.raises(CheckpointError, match=r"is at step 4, but train.steps is 3"):
        Trainer(tiny("train.steps=3"))


def test_resuming_as_another_architecture_lists_what_differs(tiny):
    Trainer(tiny("train.steps=2")).run()
    with pytest.raises(CheckpointError) as error:
        Trainer(tiny("model.unet.width=16", "model.encoder.block=released"))
    assert "model.unet.width: 8 in the file, 16 in the options" in str(error.value)
    assert "model.encoder.block: 'paper' in the file, 'released' in the options" in str(error.value)


def test_a_run_that_leaves_an_output_untrained_resumes(tiny):
    """Without a loss on the noise, 1Net-B's second decoder has no gradient, and Adam no state for it."""
    settings = ("model.unet.type=1Net-B", "losses=[{type: l1, of: residual}]", "train.schedule=constant")
    Trainer(tiny(*settings, "train.steps=2")).run()
    resumed = Trainer(tiny(*settings, "train.steps=3"))
    assert resumed.step == 2
    resumed.run()
    assert resumed.finished


def test_what_changes_no_result_may_change_on_resume(tiny):
    Trainer(tiny("train.steps=2")).run()
    assert Trainer(tiny("train.steps=2", "model.transfer.matching_memory=1")).step == 2


def test_each_session_is_recorded(tiny):
    Trainer(tiny("train.steps=2", "train.schedule=constant")).run()
    trainer = Trainer(tiny("train.schedule=constant"))
    trainer.run()
    Trainer(tiny("train.schedule=constant")).run()  # finished: adds nothing
    record = json.loads((trainer.folder.path / "environment.json").read_text())
    assert [session["from_step"] for session in record] == [0, 2]


def test_a_lost_weights_file_comes_back(tiny):
    trainer = Trainer(tiny())
    trainer.run()
    expected = weights_of(trainer.folder.path)
    trainer.folder.weights.unlink()
    Trainer(tiny()).run()
    found = weights_of(trainer.folder.path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_few_steps_still_leave_trained_weights(tiny):
    trainer = Trainer(tiny("train.ema_every=100"))
    before = {name: value.clone() for name, value in trainer.stepper.ema.model.state_dict().items()}
    trainer.run()
    after = weights_of(trainer.folder.path)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_written_files_are_as_readable_as_others(tiny, tmp_path):
    trainer = Trainer(tiny("train.steps=1"))
    trainer.run()
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in trainer.folder.path.rglob("*.safetensors")}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}


def test_a_signal_while_validating_stops_there_with_everything_saved(tiny, monkeypatch):
    trainer = Trainer(tiny("train.validate_every=2", "train.checkpoint_every=1000"))
    restore = trainer.validator._restore

    def restore_and_signal(*arguments):
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return restore(*arguments)

    monkeypatch.setattr(trainer.validator, "_restore", restore_and_signal)
    assert trainer.run() is None
    assert [p.name for p in trainer.folder.checkpoints()] == ["step-00000002.safetensors"]
    assert not (trainer.folder.path / "validation").exists() or not list((trainer.folder.path / "validation").iterdir())


def test_losses_and_metrics_of_one_name_are_refused_before_training(tiny):
    with pytest.raises(ConfigError, match=r"losses\.1: a second loss called l1_residual"):
        Trainer(tiny("losses=[{type: l1, of: residual}, {type: l1, of: residual, weight: 2}]"))
    with pytest.raises(ConfigError, match="two metrics would both be written as 'psnr'"):
        Trainer(tiny("val.metrics=[{type: psnr}, {type: psnr}]"))


def test_quiet_training_is_quiet(tmp_path, capsys):
    words = ["-q", "train", str(ROOT / "options" / "quickstart.yml"), *TINY, f"output={tmp_path}", "train.steps=2"]
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    assert "step 2 of 2" in (tmp_path / "quickstart" / "train.log").read_text()


def test_starting_from_other_weights(tiny):
    source = Trainer(tiny("name=source"))
    source.run()
    started = Trainer(tiny("name=new", f"train.start_from={source.folder.weights}"))
    assert started.step == 0
    state = weights_of(source.folder.path)
    assert all(torch.equal(value, state[name]) for name, value in started.stepper.model.state_dict().items())
    assert all(torch.equal(value, state[name]) for name, value in started.stepper.ema.model.state_dict().items())


def test_old_checkpoints_go_only_after_new_ones_came(tiny):
    trainer = Trainer(tiny("train.checkpoint_every=1", "train.keep_checkpoints=1"))
    trainer.run()
    assert [p.name for p in trainer.folder.checkpoints()] == ["step-00000004.safetensors"]


def start(tmp_path, *settings):
    words = [str(ROOT / "options" / "quickstart.yml"), *TINY, f"output={tmp_path / 'runs'}", "name=cut", *settings]
    return subprocess.Popen(
        [sys.executable, "-m", "ttrd3", "train", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def wait_for(path, process, seconds=120):
    for _ in range(seconds * 20):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    process = start(tmp_path, "train.steps=100000", "train.checkpoint_every=2", "train.workers=1")
    wait_for(tmp_path / "runs/cut/checkpoints/step-00000002.safetensors", process)
    os.killpg(process.pid, number)  # to the workers too, as a terminal and a scheduler do
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("finishing this step") == 1
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    newest = max((tmp_path / "runs/cut/checkpoints").glob("step-*.safetensors"))
    stored = checkpoint.load(newest)
    assert f"stopped after step {stored.step};" in err
    assert not list(tmp_path.rglob("*.partial"))


def test_learning_rate_follows_its_schedule(tiny):
    train = tiny("train.steps=100", "train.warmup=9", "train.learning_rate=1.0").train
    assert [learning_rate(step, train) for step in (0, 4)] == pytest.approx([0.1, 0.5], rel=1e-6)
    assert train.schedule == "cosine"
    assert learning_rate(9, train) == pytest.approx(1.0, rel=1e-6)
    assert learning_rate(9 + 91 // 2, train) == pytest.approx((1 + FLOOR) / 2, rel=0.03)
    assert learning_rate(100, train) == pytest.approx(FLOOR)
    constant = train.model_copy(update={"schedule": "constant"})
    assert {learning_rate(step, constant) for step in range(9, 101)} == {1.0}


def test_ema_follows_the_model_and_warms_up():
    model = torch.nn.Linear(1, 1)
    ema = EMA(model, decay=0.9)
    expected = model.weight.item()
    for n in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(float(n))
        ema.update(model)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert ema.model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_progress_without_a_terminal_is_a_line_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr("ttrd3.engine.logs.EVERY", 0.0)
    with caplog.at_level("INFO", "ttrd3"), Progress("validation", 3, "image") as progress:
        for _ in range(3):
            progress.update()
    assert [line.partition(" images")[0] for line in caplog.messages] == ["validation: 1 of 3", "validation: 2 of 3"]
    assert all(line.endswith("left") for line in caplog.messages)


def test_a_signal_in_the_last_validation_is_no_finished_run(tiny, monkeypatch):
    trainer = Trainer(tiny("train.validate_every=2"))
    restore = trainer.validator._restore

    def restore_and_signal(*arguments):
        if trainer.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return restore(*arguments)

    monkeypatch.setattr(trainer.validator, "_restore", restore_and_signal)
    assert trainer.run() is None
    assert trainer.interrupted
    assert list(trainer.folder.validations()) == [2]
    again = Trainer(tiny("train.validate_every=2"))
    assert again.run() is not None
    assert not again.interrupted
    assert list(again.folder.validations()) == [2, 4]
