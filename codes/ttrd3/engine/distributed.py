"""Processes that train together: who they are (torchrun's environment), what they agree on and hand to each other.

The only module that reads the environment. `torchrun` sets RANK, WORLD_SIZE and LOCAL_RANK on one machine, on several
and under SLURM; without them there is one process.
"""

import contextlib
import ctypes
import datetime
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ttrd3 import environment
from ttrd3.errors import UserError

PATIENCE = datetime.timedelta(hours=12)  # a process may wait for the others' validation or tile cache
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_PEER_GONE = re.compile(r"connection (closed|reset)|broken pipe", re.IGNORECASE)  # in torch's RuntimeErrors


class PeerError(UserError):
    """Another process of the same training has ended before its time."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this training has ended; if it gave a reason, that stands above, else it was killed, "
            "perhaps for want of memory. The same command goes on from the newest checkpoint."
        )


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: Its number, 0 to size - 1.
        size: How many there are.
        local_rank: Its number on its machine.
        store: What all processes can write to, hosted by torchrun; None for one process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    store: dist.Store | None = None

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files and speaks to the user."""
        return self.rank == 0

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any process says so; every process must ask at the same point."""
        if self.size == 1:
            return flags
        said = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return tuple(map(bool, said.tolist()))

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return (sums / self.size).tolist()

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give each gradient its mean over the processes, for parameters that DDP does not know of."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.size

    def gather(self, found: Any) -> list[Any]:
        """What each process has found, by rank, in every process."""
        if self.size == 1:
            return [found]
        everything: list[Any] = [None] * self.size
        dist.all_gather_object(everything, found)
        return everything

    def first_to_say(self, text: str) -> bool:
        """Whether no other process has said `text` yet: what goes wrong in all of them is told once."""
        if self.store is None:
            return True
        key = f"ttrd3/said/{hashlib.sha256(text.encode()).hexdigest()}"
        with contextlib.suppress(RuntimeError):  # the store may have gone with another process
            return self.store.add(key, 1) == 1
        return True


ALONE = World()


def world_size() -> int:
    """How many processes torchrun has started; 0 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "0"))


def uses_cuda(device: str) -> bool:
    """Whether an option `device` means CUDA on this machine."""
    return device != "cpu" and torch.cuda.is_available()


@contextlib.contextmanager
def joined(cuda: bool) -> Iterator[World]:
    """The processes that torchrun started, as one group for the time of the block; `ALONE` where it started none.

    Args:
        cuda: Whether gradients are on CUDA devices and so travel by NCCL; everything else does by gloo.

    Raises:
        PeerError: In the block, another process ended while this one waited for it.
    """
    if world_size() < 2:
        yield ALONE
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"environment: WORLD_SIZE is {world_size()}, but {', '.join(missing)} not set. Start several processes by "
            "torchrun, which sets them all (README, Training), or unset WORLD_SIZE."
        )
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    world = World(rank, size, int(os.environ["LOCAL_RANK"]), store)
    _stop_with_the_parent()
    if "OMP_NUM_THREADS" not in os.environ:
        there = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
        torch.set_num_threads(max(1, environment.cores() // there))
    backends = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(
        backends, timeout=PATIENCE, store=dist.PrefixStore("group", store), rank=rank, world_size=size
    )
    try:
        yield world
    except RuntimeError as error:
        if _PEER_GONE.search(str(error)):
            raise PeerError from error
        raise
    dist.destroy_process_group()  # not after an error: it would wait for exchanges that nobody answers any more


def _stop_with_the_parent() -> None:
    """A launcher that is killed takes its processes along (SIGTERM: they save), instead of leaving them to run on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
