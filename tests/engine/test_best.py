"""The best validation is kept, and training ends when nothing improves any more."""

import json

import pytest
from safetensors.torch import load_file

from ttrd3.engine import checkpoint
from ttrd3.engine.best import Best
from ttrd3.engine.run_folder import RunFolder
from ttrd3.engine.trainer import Trainer
from ttrd3.errors import ConfigError, DataError
from ttrd3.metrics.psnr import Psnr


@pytest.fixture
def validated(tiny):
    """`validated(options, {step: psnr})` -> a run folder with these results."""

    def make(scores):
        folder = RunFolder(tiny())
        for step, value in scores.items():
            path = folder.validation(f"step-{step:08d}")
            path.mkdir(parents=True)
            (path / "results.json").write_text(json.dumps({"ttrd3": {"psnr": value}}))
        return folder

    return make


def test_the_earliest_best_step_up_to_now(validated):
    best = Best(validated({10: 20.0, 20: 25.0, 30: 25.0, 40: 24.0, 50: 30.0}), [Psnr()], "psnr", 2)
    assert [best.step(now) for now in (0, 10, 25, 40, 50)] == [None, 10, 20, 20, 50]
    assert [best.is_exhausted(now) for now in (10, 20, 30, 40, 50)] == [False, False, False, True, False]


def test_only_validations_made_as_the_newest_count(validated):
    folder = validated({10: 20.0, 20: 30.0, 30: 29.0, 40: 22.0, 50: 21.0, 60: 20.5})
    for step in (10, 20, 30, 40, 50, 60):
        path = folder.validation(f"step-{step:08d}") / "results.json"
        document = json.loads(path.read_text())
        document["protocol"] = {"fidelity": 1.0 if step < 40 else 0.0, "training_steps": step, "metrics": {"psnr": {}}}
        if step == 50:  # of another version, and with one more metric: made alike
            document["protocol"] |= {"ensemble": False, "metrics": {"psnr": {}, "ssim": {}}, "weights": "w"}
        path.write_text(json.dumps(document))
    best = Best(folder, [Psnr()], "psnr", 2)
    assert [best.step(now) for now in (10, 20, 30, 40, 50, 60)] == [10, 20, 20, 40, 40, 40]
    assert [best.is_exhausted(now) for now in (30, 40, 50, 60)] == [False, False, False, True]


def test_a_metric_where_less_is_better(validated):
    metric = Psnr()
    metric.higher_is_better = False
    assert Best(validated({1: 20.0, 2: 19.0, 3: 21.0}), [metric], "psnr", None).step(3) == 2


def test_without_a_metric_nothing_is_best(validated):
    best = Best(validated({1: 20.0}), [Psnr()], None, None)
    assert best.step(5) is None
    assert not best.is_exhausted(5)


def test_bad_names_and_results(validated, tiny):
    folder = validated({1: 20.0})
    with pytest.raises(ConfigError, match=r"train\.best: found 'lpips', expected a metric of val\.metrics: psnr"):
        Best(folder, [Psnr()], "lpips", None)
    (folder.validation("step-00000001") / "results.json").write_text("{}")
    with pytest.raises(DataError, match=r"results\.json: does not tell psnr"):
        Best(folder, [Psnr()], "psnr", None).step(1)
    with pytest.raises(ConfigError, match=r"train\.patience: found 3, but train\.best is null"):
        tiny("train.patience=3")


def test_training_keeps_the_best_and_ends_early(tiny):
    """A learning rate that ruins the weights makes every later validation worse."""
    settings = ("train.best=psnr", "train.patience=2", "train.validate_every=1", "train.learning_rate=0.5")
    options = tiny(*settings, "train.steps=30", "train.schedule=constant", "train.ema_decay=0", "train.ema_every=1")
    trainer = Trainer(options)
    trainer.run()
    assert trainer.finished
    assert trainer.step < 30
    scores = {
        step: json.loads(path.read_text())["ttrd3"]["psnr"] for step, path in trainer.folder.validations().items()
    }
    best = max(scores, key=lambda step: (scores[step], -step))
    assert checkpoint.load(trainer.folder.best).step == best == trainer.step - 2
    assert checkpoint.load(trainer.folder.weights).step == trainer.step
    assert "ended early: psnr has not improved in 2 validations" in (trainer.folder.path / "train.log").read_text()
    expected = load_file(trainer.folder.best)
    again = Trainer(options)  # the same command again: it has ended
    assert again.finished
    assert again.run() is None
    assert all(value.equal(expected[name]) for name, value in load_file(trainer.folder.best).items())


def test_a_best_file_that_was_not_written_any_more_is_written_on_resume(tiny):
    settings = ("train.best=psnr", "train.validate_every=4")
    trainer = Trainer(tiny(*settings))
    trainer.run()
    trainer.folder.best.unlink()  # as if the process had been killed right after the validation
    Trainer(tiny(*settings)).run()
    assert checkpoint.load(trainer.folder.best).step == 4
