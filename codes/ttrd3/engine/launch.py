"""Starts one process for each device through torchrun's agent, where the user has not done so."""

import logging
import math
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ttrd3.engine import distributed
from ttrd3.engine.options import Options
from ttrd3.errors import ConfigError

logger = logging.getLogger(__name__)

SAVING = 600  # seconds that processes have to finish a step and save after a signal
INTERRUPTED = 130


def processes(trainings: Sequence[Options]) -> int:
    """How many processes train on this machine: as many for each of the trainings, which follow each other.

    `train.processes`, or one for each visible GPU as long as they share every batch evenly; one where there is none.
    Under torchrun it has decided.

    Raises:
        ConfigError: The batch cannot be shared out evenly.
    """
    train = trainings[-1].train
    batches = [training.train.batch_size for training in trainings]
    if started := distributed.world_size():
        asked, who = started, f"torchrun started {started} processes"
    elif train.processes is not None:
        asked, who = train.processes, f"train.processes is {train.processes}"
    else:
        return _for_visible_devices(trainings[-1].device, batches)
    for training, batch in zip(trainings, batches, strict=True):
        if batch % asked:
            raise ConfigError(
                f"train.batch_size: found {batch}, but {who}, which share each batch of the run {training.name}. "
                f"Set train.batch_size to a multiple of {asked} (and train.accumulation so that their product stays)."
            )
    return asked


def _for_visible_devices(device: str, batches: Sequence[int]) -> int:
    devices = torch.cuda.device_count() if device in ("auto", "cuda") else 1
    shared = math.gcd(*batches)
    count = max(n for n in range(1, max(1, devices) + 1) if shared % n == 0)
    if count < devices:
        logger.warning(
            "%d of %d GPUs are used: train.batch_size is %s, and the processes share each batch evenly. "
            "Set it to a multiple of %d to use all of them.", count, devices, " and ".join(map(str, batches)), devices,
        )  # fmt: skip
    return count


def launch(words: Sequence[str], count: int) -> int:
    """Run `ttrd3 WORDS` in `count` processes on this machine; returns the exit code.

    A signal reaches every process, which finishes its step, saves and ends; a second one ends them at once.
    """
    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the processes speak for themselves
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, shutdown_timeout=SAVING,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "ttrd3", *words)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            logger.error(
                "process %d of %d was killed (%s), perhaps for want of memory. "
                "The same command goes on from the newest checkpoint.", rank, count, failure.signal_name(),
            )  # fmt: skip
            return 2
        return failure.exitcode
    except (SignalException, KeyboardInterrupt):
        return INTERRUPTED
    return 0
