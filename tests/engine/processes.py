"""Real trainings in processes of their own, forked from one that has imported everything: quick to start."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from helpers import TINY
from torch.distributed import TCPStore

from ttrd3.environment import ROOT

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["ttrd3.__main__", "ttrd3.commands.train", "ttrd3.engine.trainer", "ttrd3.engine.launch"]
)


def words(output: Path, *settings: str) -> list[str]:
    """A tiny `ttrd3 train`."""
    return ["train", str(ROOT / "options" / "quickstart.yml"), *TINY, f"output={output}", *settings]


def start(log: Path, arguments: list[str], environment: dict[str, str] | None = None, before=None):
    """Start `ttrd3 ARGUMENTS`, which writes to `log`; `before()` is called first in the new process."""
    process = CONTEXT.Process(target=_run, args=(log, arguments, environment or {}, before))
    process.start()
    return process


def finish(process, seconds: float = 120) -> int:
    """The exit code; negative: killed by that signal."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"still running after {seconds} s")
    return process.exitcode


def train(log: Path, arguments: list[str], before=None) -> int:
    """Run to the end."""
    return finish(start(log, arguments, before=before))


def start_together(log: Path, arguments: list[str], size: int = 2) -> list:
    """Start `size` processes that train together, with the environment and the store of torchrun."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    processes = [start(log, arguments, common | rank) for rank in ranks]
    processes[0].store = store  # lives as long as they do
    return processes


def _run(log: Path, arguments: list[str], environment: dict[str, str], before) -> None:
    os.environ.update(environment)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # test runners may ignore it
    import torch

    from ttrd3.__main__ import main

    torch.set_num_threads(1)
    if before is not None:
        before()
    sys.exit(main(arguments))
