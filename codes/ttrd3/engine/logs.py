"""Scalars and pictures of a run: TensorBoard, one line every so many steps, and the progress bar."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ttrd3.errors import UserError

logger = logging.getLogger(__name__)


class RunLog:
    """Averages what the steps report and writes it every `every` steps.

    Args:
        folder: Where TensorBoard files go.
        every: Steps between two lines.
        images_per_step: For the speed.
        start: Steps done before; TensorBoard drops what a former, interrupted run wrote beyond it.
        steps: Steps in all.
        bar: Progress bar, which shows loss, speed and time left.
    """

    def __init__(self, folder: Path, every: int, images_per_step: int, start: int, steps: int, bar: tqdm):
        self.folder = folder
        self.start = start
        self.every = every
        self.images_per_step = images_per_step
        self.steps = steps
        self.bar = bar
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = time.perf_counter()

    def __enter__(self) -> "RunLog":
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
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._writing():
                self.writer.close()
        finally:
            self._restore_hook(self._threads)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Take the values of optimiser step number `step` (from 1)."""
        self.bar.update()
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % self.every == 0 or step == self.steps:
            self._write(step)

    def pause(self, seconds: float) -> None:
        """Leave `seconds` of something else (a validation, a checkpoint) out of the speed."""
        self._since += seconds

    def validation(self, step: int, means: dict[str, dict[str, float]], pictures: dict[str, np.ndarray]) -> None:
        """Write mean metrics of each method, {method: {metric: value}}, and pictures by image name."""
        with self._writing():
            for method, values in means.items():
                for name, value in values.items():
                    self.writer.add_scalar(f"validation/{name}/{method}", value, step)
            for name, picture in pictures.items():
                self.writer.add_image(f"validation/{name}", picture, step, dataformats="HWC")

    def _write(self, step: int) -> None:
        seconds = time.perf_counter() - self._since
        means = {name: value / self._count for name, value in self._sums.items()}
        speed = self._count * self.images_per_step / seconds
        means["train/images_per_second"] = speed
        with self._writing():
            for name, value in means.items():
                self.writer.add_scalar(name, value, step)
        left = duration((self.steps - step) * seconds / self._count)
        loss = means["loss/total"]
        self.bar.set_postfix_str(f"loss {loss:.4g}, {speed:.2f} images/s")
        logger.info("step %d of %d: loss %.4g, %.2f images/s, %s left", step, self.steps, loss, speed, left)
        self._sums, self._count, self._since = {}, 0, time.perf_counter()

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


def duration(seconds: float) -> str:
    """75 -> "1:15", 7322 -> "2:02:02"."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
