"""Whatever happens to a training, a checkpoint is there that goes on to exactly the same weights."""

import importlib
import os
import random
import re
import resource
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from engine.processes import finish, start, start_together, train, words
from safetensors.torch import load_file

from ttrd3.__main__ import main
from ttrd3.engine import checkpoint
from ttrd3.engine.options import load_options
from ttrd3.engine.stepper import Stepper
from ttrd3.engine.trainer import Trainer
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError, UserError
from ttrd3.files import PARTIAL

# A step is 2 passes of 2 samples, an epoch 11 tiles: steps end in the middle of epochs.
LONG = ["train.steps=14", "train.accumulation=2", "train.checkpoint_every=1", "val.save_images=false"]


def weights(folder: Path) -> dict:
    return load_file(folder / "weights.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run, and the seconds of one of its steps."""
    output = tmp_path_factory.mktemp("uninterrupted")
    assert train(output / "log", words(output, *LONG, "train.keep_checkpoints=100")) == 0
    times = sorted(p.stat().st_mtime for p in (output / "quickstart" / "checkpoints").iterdir())
    return output / "quickstart", (times[-1] - times[0]) / (len(times) - 1)


def wait_until_it_trains(process, folder: Path) -> None:
    record = folder / "environment.json"
    former = record.stat().st_mtime_ns if record.exists() else None
    while process.is_alive() and not (record.exists() and record.stat().st_mtime_ns != former):
        time.sleep(0.002)


def test_kill_9_at_random_moments(uninterrupted, tmp_path):
    """Killed again and again, within two steps of its start, it arrives at the weights of the uninterrupted run."""
    expected, seconds = uninterrupted
    chance = random.Random(0)
    folder = tmp_path / "quickstart"
    kills = 0
    while True:
        process = start(tmp_path / "log", words(tmp_path, *LONG))
        wait_until_it_trains(process, folder)
        process.join(chance.uniform(0, 2 * seconds))
        process.kill()
        code = finish(process)
        for path in (folder / "checkpoints").glob("step-*"):
            checkpoint.load(path)  # whole, whenever the process was killed
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
        kills += 1
        if kills == 40:
            assert train(tmp_path / "log", words(tmp_path, *LONG)) == 0
            break
    assert kills >= 8
    assert same(weights(folder), weights(expected))
    assert not list(folder.rglob(f"*{PARTIAL}*"))  # what the killed ones had half-written


@dataclass
class KillAt:
    """Ends its process by kill -9 at the n-th call of a function that saving consists of, once `after` exists."""

    module: str
    name: str
    number: int
    after: Path

    def __call__(self) -> None:
        target = importlib.import_module(self.module)
        *path, name = self.name.split(".")
        for part in path:
            target = getattr(target, part)
        real, calls = getattr(target, name), 0

        def counted(*args, **kwargs):
            nonlocal calls
            calls += self.after.exists()
            if calls == self.number:
                if name == "save_file":
                    args[1].write_bytes(b"half a file")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(target, name, counted)


@pytest.mark.parametrize("number", [1, 2])  # of the second step: its weights, its checkpoint
@pytest.mark.parametrize(
    ("module", "name"),
    [("ttrd3.engine.checkpoint", "save_file"), ("ttrd3.files", "os.fsync"), ("ttrd3.files", "Path.replace")],
)
def test_kill_9_while_saving(uninterrupted, tmp_path, module, name, number):
    first = tmp_path / "quickstart" / "checkpoints" / "step-00000001.safetensors"
    settings = words(tmp_path, *LONG)
    assert train(tmp_path / "log", settings, KillAt(module, name, number, first)) == -signal.SIGKILL
    assert list(tmp_path.rglob(f"*{PARTIAL}"))  # it was killed while it wrote
    assert checkpoint.load(first).step == 1
    assert train(tmp_path / "log", settings) == 0
    assert same(weights(tmp_path / "quickstart"), weights(uninterrupted[0]))
    assert not list(tmp_path.rglob(f"*{PARTIAL}*"))


def test_stopped_and_resumed_in_two_processes(tmp_path):
    """Bit for bit, in two processes too, stopped by SIGTERM in the middle of an epoch."""
    settings = ["train.steps=8", "train.accumulation=2", "train.checkpoint_every=100", "val.save_images=false"]
    whole = start_together(tmp_path / "whole.log", words(tmp_path / "whole", *settings))
    assert [finish(process) for process in whole] == [0, 0], (tmp_path / "whole.log").read_text()

    log = tmp_path / "parts.log"
    processes = start_together(log, words(tmp_path / "parts", *settings, "train.log_every=1"))
    while "step 2 of 8" not in log.read_text() if log.exists() else True:
        assert any(process.is_alive() for process in processes), log.read_text()
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGTERM)  # one is enough: they agree
    assert [finish(process) for process in processes] == [130, 130], log.read_text()
    (found,) = (tmp_path / "parts" / "quickstart" / "checkpoints").glob("step-*")
    assert checkpoint.load(found).step < 8
    processes = start_together(log, words(tmp_path / "parts", *settings, "train.log_every=1"))
    assert [finish(process) for process in processes] == [0, 0], log.read_text()
    assert same(weights(tmp_path / "parts" / "quickstart"), weights(tmp_path / "whole" / "quickstart"))


# --- damage ---


@pytest.fixture(scope="module")
def _run(tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    assert main(["-q", *words(output, "train.schedule=constant", "train.checkpoint_every=1")]) == 0
    return output / "quickstart"


@pytest.fixture
def run(_run, tmp_path):
    """A finished run of 4 steps with checkpoints at 3 and 4, free to be damaged, in tmp_path/runs/quickstart."""
    return shutil.copytree(_run, tmp_path / "runs" / "quickstart")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the last tensor
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("damage", "says"), [(flip, "altered"), (halve, "damaged"), (Path.touch, None)])
def test_a_damaged_newest_checkpoint_falls_back(tiny, run, capfd, damage, says):
    newest = run / "checkpoints" / "step-00000004.safetensors"
    damage(newest)
    trainer = Trainer(tiny("train.schedule=constant", "train.checkpoint_every=1"))
    assert trainer.step == (3 if says else 4)
    expected = weights(run)
    trainer.run()
    assert same(weights(run), expected)
    log = (run / "train.log").read_text()
    if says:
        assert re.search(rf"step-00000004\.safetensors: .*{says}", log)
        assert "falls back to the checkpoint before, step-00000003.safetensors" in log
        checkpoint.load(newest)  # trained again, and whole now


def test_no_whole_checkpoint(tiny, run):
    for path in (run / "checkpoints").iterdir():
        flip(path)
    with pytest.raises(CheckpointError, match=r"No checkpoint of this run is whole.*delete .*checkpoints"):
        Trainer(tiny("train.schedule=constant"))


def test_the_checkpoint_folder_vanishes_while_training(tiny):
    trainer = Trainer(tiny("train.checkpoint_every=1"))
    step = trainer.stepper.step

    def step_and_remove(number, batches):
        if number == 2:
            shutil.rmtree(trainer.folder.path / "checkpoints")
        return step(number, batches)

    trainer.stepper.step = step_and_remove
    assert trainer.run() is not None
    assert [p.name for p in trainer.folder.checkpoints()] == ["step-00000004.safetensors", "step-00000003.safetensors"]


# --- changed options ---


def test_a_changed_option_is_refused_unless_told(tiny, run):
    changed = ("train.schedule=constant", "train.steps=6", "train.learning_rate=1e-4", "losses.1.weight=2", "seed=3")
    with pytest.raises(CheckpointError) as error:
        Trainer(tiny(*changed))
    message = str(error.value)
    assert "train.learning_rate: 0.001 when this run was last saved, now 0.0001" in message
    assert "losses.1.weight: 1.0 when this run was last saved, now 2.0" in message
    assert "seed: 10" in message
    assert "train.steps" not in message  # with a constant learning rate, more steps change nothing
    assert "--accept-changes" in message
    trainer = Trainer(tiny(*changed), accept_changes=True)
    trainer.run()
    assert trainer.step == 6
    assert "train.learning_rate: 0.001 when" in (run / "train.log").read_text()


def test_more_steps_of_a_falling_learning_rate_are_a_change(tiny):
    Trainer(tiny()).run()
    with pytest.raises(CheckpointError, match=r"train\.steps: 4 when this run was last saved, now 8"):
        Trainer(tiny("train.steps=8"))


def test_what_has_no_influence_may_change(tiny, run, tmp_path):
    moved = run.rename(tmp_path / "runs" / "moved")
    settings = ("name=moved", "train.schedule=constant", "train.steps=5", "train.workers=1", "val.pictures=2")
    passes = ("train.batch_size=1", "train.accumulation=2", "train.channels_last=true", "train.best=psnr")
    trainer = Trainer(tiny(*settings, *passes))
    assert trainer.step == 4
    assert moved == trainer.folder.path


# --- two at once, and signals ---


def test_two_trainings_in_one_folder(tmp_path):
    log = tmp_path / "log"
    first = start(log, words(tmp_path, "train.steps=100000", "train.log_every=1"))
    try:
        while not (tmp_path / "quickstart/checkpoints/step-00000002.safetensors").exists():
            assert first.is_alive(), log.read_text()
            time.sleep(0.05)
        assert train(tmp_path / "second.log", words(tmp_path, "train.steps=100000")) == 2
        message = (tmp_path / "second.log").read_text()
        assert f"run folder {tmp_path}/quickstart is in use by process {first.pid} on " in message
        assert "choose another name" in message
    finally:
        first.kill()
        first.join()
    again = Trainer(load_options(words(tmp_path, "train.steps=100000")[1:]))
    assert again.step >= 2  # the lock went with its holder


@dataclass
class TellOfStep:
    """Leaves a file when the first step has its batches and begins."""

    sign: Path

    def __call__(self) -> None:
        real = Stepper.step

        def telling(*arguments):
            self.sign.touch()
            return real(*arguments)

        Stepper.step = telling


def test_a_second_signal_ends_at_once(tmp_path):
    log, sign = tmp_path / "log", tmp_path / "sign"
    process = start(log, words(tmp_path, "train.steps=100000", "train.accumulation=300"), before=TellOfStep(sign))
    while not sign.exists():
        assert process.is_alive(), log.read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    while "finishing this step" not in log.read_text():
        time.sleep(0.05)
    time.sleep(3.2)  # sooner it would count as the same signal, passed on by a launcher
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    assert finish(process) == 130
    assert "stopped after step" not in log.read_text()  # it did not wait for the step
    assert not list((tmp_path / "quickstart" / "checkpoints").iterdir())
    assert not list(tmp_path.rglob(f"*{PARTIAL}*"))


# --- bad data and bad losses ---


def test_a_bad_image_in_the_middle_of_a_run(tmp_path, tiny):
    """The steps done are saved, and with the image mended the run goes on to the weights of an undisturbed one."""
    data = shutil.copytree(ROOT / "samples" / "neon", tmp_path / "neon")
    settings = (f"data.train.root={data}", "train.checkpoint_every=100", "train.cache=false", "train.steps=5")
    whole = Trainer(tiny(*settings, "name=whole"))
    whole.run()
    trainer = Trainer(tiny(*settings))
    step, former = trainer.stepper.step, {tile.hr: tile.hr.read_bytes() for tile in trainer.data.tiles}

    def step_and_damage(number, batches):
        if number == 2:
            for path in former:
                path.write_bytes(b"damaged")
        return step(number, batches)

    trainer.stepper.step = step_and_damage
    with pytest.raises(UserError, match=r"\.png: not an image that can be read"):
        trainer.run()
    assert [checkpoint.load(path).step for path in trainer.folder.checkpoints()] == [3]
    for path, content in former.items():
        path.write_bytes(content)
    again = Trainer(tiny(*settings))
    assert again.step == 3
    again.run()
    assert same(weights(again.folder.path), weights(whole.folder.path))


class PoisonedLoss:
    """A loss that is not a number from one step to another, at the poisoned steps."""

    def __init__(self, trainer, poisoned: set[int]):
        self.trainer, self.poisoned = trainer, poisoned
        self.real = trainer.stepper.losses[0]
        self.name, self.weight = self.real.name, self.real.weight

    def __call__(self, step):
        value = self.real(step)
        return value * torch.nan if self.trainer.step in self.poisoned else value


def poison(trainer, steps: set[int]) -> None:
    trainer.stepper.losses[0] = PoisonedLoss(trainer, steps)


def test_a_loss_that_is_not_finite_is_skipped_and_counted(tiny):
    trainer = Trainer(tiny("train.steps=6", "train.checkpoint_every=3", "train.log_every=1"))
    poison(trainer, {2, 4})
    trainer.run()
    assert trainer.skipped.total == 2
    log = (trainer.folder.path / "train.log").read_text()
    assert "step 3: skipped, the loss is nan" in log
    assert "step 5: skipped, the loss is nan" in log
    assert all(value.isfinite().all() for value in weights(trainer.folder.path).values())
    assert checkpoint.load(trainer.folder.checkpoint(6)).counters["skipped"] == {"row": 0, "total": 2}
    adam = checkpoint.load(trainer.folder.checkpoint(6)).part("adam.step")
    assert {float(value) for value in adam.values()} == {4.0}


def test_too_many_in_a_row_end_the_run_at_the_last_good_state(tiny):
    settings = ("train.steps=9", "train.checkpoint_every=100", "train.max_skipped=3")
    trainer = Trainer(tiny(*settings))
    poison(trainer, {3, 4, 5, 6})
    with pytest.raises(UserError) as error:
        trainer.run()
    message = str(error.value)
    assert message.startswith("step 6: the loss is nan")
    assert "3 steps in a row" in message
    assert "The last good state, step 3, is saved" in message
    assert sum(tile.name in message for tile in trainer.data.tiles) >= 1
    whole = Trainer(tiny(*settings, "name=whole"))
    whole.run()
    again = Trainer(tiny(*settings))  # the fault is gone
    assert again.step == 3
    again.run()
    assert same(weights(again.folder.path), weights(whole.folder.path))


# --- memory ---


@dataclass
class LimitMemory:
    """Leaves the process little more memory than it has, from step `number` on."""

    number: int

    def __call__(self) -> None:
        real = Stepper._backward

        def limited(stepper, step, batches):
            if stepper.adam.state and next(iter(stepper.adam.state.values()))["step"] >= self.number:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
                batches = [{**batch, **{key: batch[key].repeat(1, 1, 8, 8) for key in IMAGES}} for batch in batches]
            return real(stepper, step, batches)

        Stepper._backward = limited


IMAGES = ("hr", "up", "reference", "degraded_reference", "noise")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process in /proc")
def test_memory_that_runs_out_in_the_middle_of_a_run(tmp_path):
    """torch's real failure to allocate: it is told what to lower, and the steps done are saved."""
    log = tmp_path / "log"
    settings = ("train.steps=100", "train.checkpoint_every=1000", "val.save_images=false")
    assert train(log, words(tmp_path, *settings), before=LimitMemory(2)) == 2
    message = log.read_text().partition("ttrd3: error: ")[2]
    assert message.startswith("out of memory: ")
    assert "Lower train.batch_size (and raise train.accumulation by as much)" in message
    assert "train.gradient_checkpointing" in message
    assert [path.name for path in (tmp_path / "quickstart/checkpoints").iterdir()] == ["step-00000002.safetensors"]
