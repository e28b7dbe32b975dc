"""Runs jobs on all cores so that Ctrl-C, a full disk or a killed parent leave no worker behind."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from ttrd3.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

_CHUNK = 4  # jobs handed over at a time: few, so that Ctrl-C waits for little


def run_jobs(work: Callable[[T], R], jobs: Iterable[T], workers: int) -> Iterator[R]:
    """`map(work, jobs)` in `workers` processes, in order; 1 runs in this process.

    Raises:
        UserError: A worker was killed, most likely for want of memory. Errors of `work` are raised as they are.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    # Not fork: this process may hold the threads of torch or of a test runner.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    try:
        with _interrupt_ignored():  # `map` starts the workers, which inherit that Ctrl-C is not for them
            results = executor.map(work, jobs, chunksize=_CHUNK)
        yield from results
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} worker processes was killed, most likely for want of memory. "
            "Run the same command again with a smaller --workers; it goes on where it stopped."
        ) from None
    finally:
        # What has begun ends within a moment; what waits is dropped.
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _end_with_parent() -> None:
    """Let this worker die with a parent that was killed, rather than wait for jobs for ever."""

    def watch() -> None:
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
