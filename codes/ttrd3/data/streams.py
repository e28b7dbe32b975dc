"""Order and randomness of samples as functions of (seed, counter), whatever the batch size, workers or restarts."""

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from ttrd3.data.triplets import TripletDataset

# Keeps the draws of one seed for different purposes independent of each other.
_ORDER, _TRAINING, _VALIDATION = 0, 1, 2


class TrainingStream(Dataset):
    """The endless stream of training samples: `stream[counter]` is always the same for the same seed."""

    def __init__(self, dataset: TripletDataset, *, seed: int):
        self.dataset = dataset
        self.seed = seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, counter: int) -> dict[str, Any]:
        """Sample number `counter` = 0, 1, ...: see `TripletDataset.sample`; each epoch is a new permutation."""
        epoch, position = divmod(counter, len(self.dataset))
        if epoch != self._epoch:  # kept only because permuting anew for every sample would be slow
            self._order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.dataset))
            self._epoch = epoch
        rng = np.random.default_rng([self.seed, _TRAINING, counter])
        return self.dataset.sample(int(self._order[position]), rng)


class ValidationView(Dataset):
    """Every tile once, in order of names; a tile's reference depends on the seed and its own name alone."""

    def __init__(self, dataset: TripletDataset, *, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample of tile `index`: see `TripletDataset.sample`."""
        name = self.dataset.tiles[index].name
        rng = np.random.default_rng([self.seed, _VALIDATION, zlib.crc32(name.encode())])
        return self.dataset.sample(index, rng)


class CounterSampler(Sampler[int]):
    """Yields start, start + 1, ... without end: the counters of a `TrainingStream` from a resumed step on."""

    def __init__(self, start: int):
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)
