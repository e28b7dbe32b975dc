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


class PassSampler(Sampler[list[int]]):
    """Counters of a `TrainingStream` for one process: its share of pass number start, start + 1, ... without end.

    A pass is `batch_size` counters in a row, which `size` processes share evenly: how many there are changes no sample.
    """

    def __init__(self, start: int, batch_size: int, rank: int = 0, size: int = 1):
        self.start = start
        self.batch_size = batch_size
        self.share = batch_size // size
        self.rank = rank

    def __iter__(self) -> Iterator[list[int]]:
        for number in itertools.count(self.start):
            first = number * self.batch_size + self.rank * self.share
            yield list(range(first, first + self.share))


class ShareSampler(Sampler[list[int]]):
    """Indices of a data set of `length` for one of `size` processes, in batches: every size-th batch of all."""

    def __init__(self, length: int, batch_size: int, rank: int = 0, size: int = 1):
        everything = range(length)
        whole = [list(everything[at : at + batch_size]) for at in range(0, length, batch_size)]
        self.batches = whole[rank::size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
