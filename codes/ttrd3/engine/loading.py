"""Batches for training and validation; a damaged image stops the run with its own message, also from a worker."""

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ttrd3.data.streams import PassSampler, ShareSampler, TrainingStream, ValidationView
from ttrd3.data.triplets import TripletDataset
from ttrd3.engine.distributed import ALONE, World
from ttrd3.engine.interrupts import SIGNALS
from ttrd3.errors import DataError, UserError

_DIFFUSION = 4  # keeps time steps and noise independent of the data's draws of the same seed (data/streams.py)

Batch = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A user's mistake found in a worker process, whose exceptions would reach the user as tracebacks."""

    text: str


class TrainingSamples(Dataset):
    """Images, time step and noise of sample number `counter`: a function of (seed, counter) alone."""

    def __init__(
        self,
        dataset: TripletDataset,
        timesteps: int,
        seed: int,
        at_start: float = 0.0,
        times: Sequence[int] | None = None,
        fidelity: float | None = None,
    ):
        """Choose how t is drawn.

        Args:
            dataset: The images.
            timesteps: T.
            seed: Of everything drawn.
            at_start: Share of samples at t = T-1, where sampling starts.
            times: What the others are drawn from; None: 0 to T-1.
            fidelity: The largest that is drawn, for a network that is told it; None: for another.
        """
        self.stream = TrainingStream(dataset, seed=seed)
        self.timesteps = timesteps
        self.at_start = at_start
        self.times = range(timesteps) if times is None else times
        self.fidelity = fidelity
        self.seed = seed

    def __getitem__(self, counter: int) -> Batch | Failure:
        """The sample of `TripletDataset.sample` with `t`, an integer, `noise`, float32 (3, H, W), and `fidelity`."""
        try:
            sample = self.stream[counter]
        except UserError as error:
            return Failure(str(error))
        rng = np.random.default_rng([self.seed, _DIFFUSION, counter])
        noise = rng.standard_normal(sample["hr"].shape, dtype=np.float32)
        t = self.times[int(rng.integers(len(self.times)))]
        if self.at_start and rng.random() < self.at_start:
            t = self.timesteps - 1
        drawn = {} if self.fidelity is None else {"fidelity": np.float32(rng.uniform(0, self.fidelity))}
        return sample | {"t": t, "noise": torch.from_numpy(noise)} | drawn


class ValidationSamples(Dataset):
    """Every validation image once."""

    def __init__(self, dataset: TripletDataset, *, seed: int):
        self.view = ValidationView(dataset, seed=seed)

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> Batch | Failure:
        """The sample of `ValidationView`."""
        try:
            return self.view[index]
        except UserError as error:
            return Failure(str(error))


def training_loader(
    samples: TrainingSamples, batch_size: int, start: int, workers: int, pin: bool, world: World = ALONE
) -> DataLoader:
    """Endless passes number start, start + 1, ...: of each, of `batch_size` samples, this process's share."""
    return DataLoader(
        samples, batch_sampler=PassSampler(start, batch_size, world.rank, world.size), collate_fn=_collate,
        num_workers=workers, pin_memory=pin, prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_signals_to_the_main_process,
    )  # fmt: skip


def validation_loader(samples: ValidationSamples, batch_size: int, pin: bool, world: World = ALONE) -> DataLoader:
    """This process's share of all validation images; images of different sizes must come in batches of one."""
    sampler = ShareSampler(len(samples), batch_size, world.rank, world.size)
    return DataLoader(samples, batch_sampler=sampler, collate_fn=_collate, pin_memory=pin)


def batches(loader: DataLoader) -> Iterator[Batch]:
    """The loader's batches.

    Raises:
        DataError: With the message of whatever image could not be used.
    """
    for batch in loader:
        if isinstance(batch, Failure):
            raise DataError(batch.text)
        yield batch


class DeviceBatches:
    """The loader's batches with their tensors on `device`; on CUDA the next one is copied while this one is used.

    Attributes:
        waited: Seconds that taking batches has taken since it was last set to 0.
    """

    def __init__(self, loader: DataLoader, device: torch.device):
        self.device = device
        self.waited = 0.0
        self._batches = batches(loader)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ahead: Batch | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            if self._stream is None:
                return to_device(next(self._batches), self.device)
            return self._next_on_cuda(self._stream)
        finally:
            self.waited += time.perf_counter() - started

    def _next_on_cuda(self, stream: torch.cuda.Stream) -> Batch:
        batch = self._copy(stream) if self._ahead is None else self._ahead
        torch.cuda.current_stream(self.device).wait_stream(stream)
        for value in batch.values():
            if isinstance(value, Tensor):
                value.record_stream(torch.cuda.current_stream(self.device))  # its memory is in use there, too
        self._ahead = self._copy(stream)
        return batch

    def _copy(self, stream: torch.cuda.Stream) -> Batch:
        with torch.cuda.stream(stream):
            return to_device(next(self._batches), self.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; names stay as they are."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def image(batch: Batch, key: str) -> Tensor:
    """uint8 images of a batch -> float32 (N, 3, H, W) in [0, 1]."""
    return batch[key].float() / 255


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole process group; the main process ends workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _collate(samples: list[Batch | Failure]) -> Batch | Failure:
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    if failures:
        return failures[0]
    sizes = {tuple(sample["hr"].shape[1:]) for sample in samples}
    if len(sizes) > 1:
        named = ", ".join(f"{w} x {h}" for h, w in sorted(sizes))
        return Failure(
            f"one batch holds images of different sizes ({named}), e.g. {samples[0]['name']}. "
            "Set data.train.crop (in validation val.batch_size=1), or prepare tiles of one size."
        )
    return default_collate(samples)
