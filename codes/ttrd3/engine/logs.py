"""Scalars and pictures of a run: TensorBoard, one line every so many steps, and the progress bar."""

import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ttrd3.engine.acceleration import peak_memory
from ttrd3.errors import UserError

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between lines of progress where there is no terminal


class RunLog:
    """Averages what the steps report and writes it every `every` steps.

    Args:
        folder: Where TensorBoard files go.
        every: Steps between two lines.
        images_per_step: For the speed.
        start: Steps done before; TensorBoard drops what a former, interrupted run wrote beyond it.
        steps: Steps in all.
        device: Whose peak memory is told.
        main: Whether this process writes and speaks; in the others of a training everything here does nothing.
    """

    def __init__(
        self, folder: Path, every: int, images_per_step: int, start: int, steps: int, device: torch.device, main: bool
    ):
        self.folder = folder
        self.start = start
        self.every = every
        self.images_per_step = images_per_step
        self.steps = steps
        self.device = device
        self.main = main
        self.bar = tqdm(
            total=steps, initial=start, desc="training", unit="step", disable=not (main and sys.stderr.isatty())
        )
        self._begin()

    def __enter__(self) -> "RunLog":
        if self.main:
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.main:
            self._close()

    def add(self, step: int, values: dict[str, float], waited: float) -> None:
        """Take what optimiser step number `step` (from 1) reports.

        Args:
            step: Its number.
            values: By name; empty for a step that was skipped.
            waited: Seconds that it waited for data.
        """
        self.bar.update()
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
        self._steps += 1
        self._updates += bool(values)
        self._waited += waited
        if self.main and (step % self.every == 0 or step == self.steps):
            self._write(step)

    def pause(self, seconds: float) -> None:
        """Leave `seconds` of something else (a validation, a checkpoint) out of the speed."""
        self._since += seconds

    def validation(self, step: int, means: dict[str, dict[str, float]], pictures: dict[str, np.ndarray]) -> None:
        """Write mean metrics of each method, {method: {metric: value}}, and pictures by image name."""
        if not self.main:
            return
        with self._writing():
            for method, values in means.items():
                for name, value in values.items():
                    self.writer.add_scalar(f"validation/{name}/{method}", value, step)
            for name, picture in pictures.items():
                self.writer.add_image(f"validation/{name}", picture, step, dataformats="HWC")

    def _begin(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._steps = self._updates = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def _write(self, step: int) -> None:
        seconds = time.perf_counter() - self._since
        # Of the steps that had it: a loss may begin between two lines.
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        speed = self._steps * self.images_per_step / seconds
        waiting = self._waited / seconds
        memory = peak_memory(self.device) / 1e9
        means |= {"train/images_per_second": speed, "train/data_waiting": waiting, "train/peak_memory_gb": memory}
        means["train/skipped"] = self._steps - self._updates
        with self._writing():
            for name, value in means.items():
                self.writer.add_scalar(name, value, step)
        left = duration((self.steps - step) * seconds / self._steps)
        self.bar.set_postfix_str(f"{speed:.2f} images/s")
        logger.info(
            "step %d of %d: %s, %.2f images/s, %.1f%% waiting for data, %.2f GB at the peak, %s left",
            step, self.steps, _listed(means), speed, 100 * waiting, memory, left,
        )  # fmt: skip
        self._begin()

    def _open(self) -> None:
        # Where TensorBoard cannot write, its thread ends with a traceback; its next call fails too, which is enough.
        self._hook, threading.excepthook = threading.excepthook, self._thread_ended
        before = set(threading.enumerate())
        try:
            with self._writing():
                self.writer = SummaryWriter(self.folder, purge_step=self.start + 1)
        except UserError:
            self._restore_hook(set(threading.enumerate()) - before)
            raise
        self._threads = set(threading.enumerate()) - before

    def _close(self) -> None:
        try:
            with self._writing():
                self.writer.close()
        finally:
            self._restore_hook(self._threads)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}). Free some space, or change output."
            ) from error

    def _restore_hook(self, threads: set[threading.Thread]) -> None:
        for thread in threads:  # a thread that failed may not have called the hook yet
            thread.join(timeout=5)
        threading.excepthook = self._hook

    def _thread_ended(self, ending: threading.ExceptHookArgs) -> None:
        if not isinstance(ending.exc_value, OSError):
            self._hook(ending)


class Progress:
    """A bar on a terminal, else a line a minute: how much of a longer work is done, and the time left.

    Args:
        what: "validation".
        total: Pieces of work.
        unit: What a piece is called.
        speaks: False: shows nothing, because another process does.
    """

    def __init__(self, what: str, total: int, unit: str, speaks: bool = True):
        self.what, self.total, self.unit = what, total, unit
        terminal = sys.stderr.isatty()
        self.lines = speaks and not terminal
        self.bar = tqdm(total=total, desc=what, unit=unit, disable=not (speaks and terminal))
        self._done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self) -> None:
        """One piece is done."""
        self.bar.update()
        self._done += 1
        now = time.monotonic()
        if self.lines and self._done < self.total and now - self._told >= EVERY:
            self._told = now
            each = (now - self._started) / self._done
            left = duration(each * (self.total - self._done))
            logger.info(
                "%s: %d of %d %ss, %.2f s each, %s left", self.what, self._done, self.total, self.unit, each, left
            )


def _listed(means: dict[str, float]) -> str:
    """ "loss 0.12 (l1_residual 0.02, ...), gradient 0.8, rate 0.001"."""
    if "loss/total" not in means:
        return "every step was skipped"
    terms = {name.removeprefix("loss/"): value for name, value in means.items() if name.startswith("loss/")}
    total = terms.pop("total")
    named = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    gradient, rate = means["train/gradient_norm"], means["train/learning_rate"]
    return f"loss {total:.4g} ({named}), gradient {gradient:.3g}, rate {rate:.3g}"


def duration(seconds: float) -> str:
    """75 -> "1:15", 7322 -> "2:02:02"."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
