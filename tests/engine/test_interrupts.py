import os
import signal

import pytest

from ttrd3.engine.interrupts import worker_deaths_wait


def child_dies() -> None:
    os.kill(os.getpid(), signal.SIGCHLD)


@pytest.fixture
def happened():
    """What happens in turn; SIGCHLD is handled as torch's DataLoader does."""
    happened = []

    def told(number, _frame):
        happened.append("told")
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    former = signal.signal(signal.SIGCHLD, told)
    yield happened
    signal.signal(signal.SIGCHLD, former)


def test_what_a_dead_worker_raises_comes_after_the_block(happened):
    def step(error: Exception | None = None) -> None:
        with worker_deaths_wait():
            child_dies()
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
        child_dies()


def test_nothing_is_changed_without_workers(happened):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with worker_deaths_wait():
        child_dies()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert happened == []
