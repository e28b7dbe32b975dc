import os
import signal

import pytest

from ttrd3.engine.interrupts import worker_deaths_wait
from ttrd3.engine.trainer import Trainer

dead = []


def worker_dies() -> None:
    dead.append(1)
    os.kill(os.getpid(), signal.SIGCHLD)


@pytest.fixture
def happened():
    """What happens in turn; SIGCHLD is handled as torch's DataLoader does, which is told of other children, too."""
    happened = []
    dead.clear()

    def told(number, _frame):
        if not dead:
            return
        dead.clear()
        happened.append("told")
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    former = signal.signal(signal.SIGCHLD, told)
    yield happened
    signal.signal(signal.SIGCHLD, former)


def test_what_a_dead_worker_raises_comes_after_the_block(happened):
    def step(error: Exception | None = None) -> None:
        with worker_deaths_wait():
            worker_dies()
            happened.append("done")
            if error:
                raise error

    with pytest.raises(RuntimeError, match="worker"):
        step()
    assert happened == ["done", "told"]
    with pytest.raises(KeyError):  # an error of the block is the one to tell
        step(KeyError())
    assert happened == ["done", "told", "done"]
    with pytest.raises(RuntimeError, match="worker"):  # the handler is back
        worker_dies()


def test_what_a_dead_worker_raises_never_keeps_the_steps_done_from_being_saved(happened, tiny, monkeypatch):
    """Its connection is reset first; that error begins the saving, and news of its death comes in the middle of it."""
    trainer = Trainer(tiny("train.checkpoint_every=1000"))
    next_passes = trainer._next_passes
    monkeypatch.setattr(
        trainer, "_next_passes", lambda *arguments: next_passes(*arguments) if trainer.step < 2 else reset()
    )
    state = trainer.stepper.ema.model.state_dict

    def state_with_news():
        if trainer.step == 2 and not happened:  # once
            worker_dies()
        return state()

    monkeypatch.setattr(trainer.stepper.ema.model, "state_dict", state_with_news)
    with pytest.raises(RuntimeError, match="worker"):
        trainer.run()
    assert happened == ["told"]
    assert [path.name for path in trainer.folder.checkpoints()] == ["step-00000002.safetensors"]


def reset() -> None:
    raise ConnectionResetError


def test_nothing_is_changed_without_workers(happened):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with worker_deaths_wait():
        worker_dies()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert happened == []
