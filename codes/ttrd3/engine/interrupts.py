"""Ctrl-C and SIGTERM finish the step at hand, a second one ends at once; a worker's death waits for the step too."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 3.0  # seconds: torchrun and schedulers pass on a signal that the process may have had itself


class Interrupts:
    """While active, the first signal sets `asked`; a later one raises KeyboardInterrupt.

    Args:
        quiet: Says nothing: another process of the same training does.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.asked = False
        self.quiet = quiet
        self._when = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._when > SAME:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._when = True, time.monotonic()
            if not self.quiet:
                name = signal.Signals(number).name
                logger.warning("%s: finishing this step, then saving; once more ends at once", name)


@contextlib.contextmanager
def worker_deaths_wait() -> Iterator[None]:
    """Raise at the block's end what torch's DataLoader, told of a dead worker by SIGCHLD, would raise somewhere in it.

    So weights, averages, the count of steps and the log belong together when the training ends, and can be saved.
    """
    former = signal.getsignal(signal.SIGCHLD)
    if not callable(former):  # no workers
        yield
        return
    came = []
    signal.signal(signal.SIGCHLD, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, former)
    if came:
        former(came[0], None)


@contextlib.contextmanager
def before_errors(save: Callable[[], None]) -> Iterator[None]:
    """Call `save` before an error leaves the block; what it has saved already it need not save again.

    It is called twice: a dead worker may show by its lost connection first, and the news of its death, which comes
    once, then cuts the saving short.
    """
    try:
        yield
    except Exception:
        try:
            save()
        finally:
            save()
        raise
