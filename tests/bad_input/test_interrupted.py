"""Ctrl-C in the middle of a validation, and a worker process that is killed (preparation and training: their tests)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import listen_to_ctrl_c

from ttrd3.environment import ROOT


def start(words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ttrd3", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_validation(tiny_words, trained, number):
    former = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    process = start(tiny_words("val", "data.val.crop=null", "data.val.limit=null", "sampling.steps=300"))
    wait_for(process, trained / "validation", ".*.partial")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("\nttrd3: interrupted\n")
    assert "Traceback" not in out + err
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == former


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
def test_a_killed_worker(tiny_words, tmp_path):
    settings = ("train.steps=100000", "train.workers=1", "train.checkpoint_every=100000", "train.log_every=1")
    process = start(tiny_words("train", *settings))
    folder = tmp_path / "runs/quickstart"
    wait_for(process, folder, "train.log")
    while "step 2 of" not in (folder / "train.log").read_text():
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        if b"multiprocessing" not in Path(f"/proc/{child}/cmdline").read_bytes():  # torch's own trackers live on
            os.kill(int(child), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "ttrd3: error: a process that loads images was killed, most likely for want of memory" in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.partial"))
    (saved,) = (folder / "checkpoints").glob("step-*.safetensors")  # the steps done are not lost
    assert f"step {int(saved.stem.removeprefix('step-'))} of" in (folder / "train.log").read_text().splitlines()[-1]
