"""Training in two processes (gloo on the CPU): the same losses, the same validation, and errors told once."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from engine.processes import finish, start_together, train, words
from helpers import SMALL, listen_to_ctrl_c, relative_error
from metrics.weights import save_features
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision import models

from ttrd3.engine import launch
from ttrd3.environment import ROOT
from ttrd3.errors import ConfigError

SETTINGS = ["train.steps=4", "train.batch_size=4", "train.log_every=1", "train.validate_every=2"]


def scalars(folder, name: str) -> list[float]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def critics_moments(run) -> torch.Tensor:
    """Adam's averages of the critics' gradients."""
    state = load_file(run / "checkpoints/step-00000004.safetensors")
    names = [name for name in sorted(state) if name.startswith("critic.adversarial_squeezenet.adam.exp_avg.")]
    return torch.cat([state[name].flatten() for name in names])


CASES = {
    "1Net-A": [],
    # Without a loss on the noise it has a decoder without gradients, which DDP must be told.
    "1Net-B": ["model.unet.type=1Net-B", "losses=[{type: l1, of: residual}]"],
    # In most steps none of a process's images has a reference; critics are averaged without DDP.
    "S": [*SMALL, "data.train.reference_dropout=0.7"],
}


@pytest.mark.parametrize("case", CASES)
def test_one_process_of_four_images_and_two_of_two(tmp_path, case):
    """The same batch, rate and seed: losses and gradients to 1e-5 in 4 steps (sums in another order)."""
    settings, names, near = [*SETTINGS, *CASES[case]], ["loss/l1_residual"], 1e-5
    if case == "S":
        file = save_features(tmp_path / "squeezenet.pth", models.squeezenet1_1)
        term = f"{{type: adversarial, trunk: squeezenet, file: {file}, width: 4, weight: [[1, 0.1]]}}"
        settings.append(f"losses=[{{type: l1, of: residual}}, {{type: l1, of: noise}}, {term}]")
        names += ["loss/adversarial_squeezenet", "loss/adversarial_squeezenet_critic"]
        near = 1e-2  # features are in bfloat16
    assert train(tmp_path / "one.log", words(tmp_path / "one", *settings)) == 0
    processes = start_together(tmp_path / "two.log", words(tmp_path / "two", *settings))
    assert [finish(process) for process in processes] == [0, 0], (tmp_path / "two.log").read_text()
    one, two = tmp_path / "one" / "quickstart", tmp_path / "two" / "quickstart"
    for name in ("loss/total", "train/gradient_norm", "train/learning_rate", *names):
        assert scalars(two, name) == pytest.approx(scalars(one, name), rel=near, abs=near / 10), name
    for step in (2, 4):
        found, expected = (
            json.loads((run / f"validation/step-0000000{step}/results.json").read_text()) for run in (two, one)
        )
        assert found["images"] == 3
        for metric, value in expected["ttrd3"].items():
            assert found["ttrd3"][metric] == pytest.approx(value, rel=max(near, 1e-4))
        assert found["bicubic"] == expected["bicubic"]
        names = [sorted(p.name for p in (run / f"validation/step-0000000{step}").rglob("*.png")) for run in (one, two)]
        assert names[0] == names[1]
    log = (tmp_path / "two.log").read_text()
    assert log.count("step 4 of 4:") == 1  # one process speaks
    assert log.count("3 images; mean over images") == 1
    record = json.loads((two / "environment.json").read_text())
    assert [session["processes"] for session in record] == [2]
    assert case == "1Net-B" or "find_unused_parameters" not in log  # DDP warns of work for nothing
    assert not list(two.rglob("*.partial"))
    if case == "S":
        assert relative_error(*(critics_moments(run) for run in (two, one))) < 0.4  # 0.9 if each process kept its own


@pytest.mark.parametrize("settings", [["data.train.root=/nowhere"], ["device=cuda:0"]])
def test_what_is_wrong_in_all_processes_is_told_once(tmp_path, settings):
    processes = start_together(tmp_path / "log", words(tmp_path / "out", *settings))
    assert [finish(process) for process in processes] == [2, 2]
    assert (tmp_path / "log").read_text().count("ttrd3: error: ") == 1
    assert not (tmp_path / "out" / "quickstart").exists()


def test_a_process_that_is_killed_costs_nothing(tmp_path):
    """The other one saves the step that it has reached."""
    log = tmp_path / "log"
    processes = start_together(log, words(tmp_path, "train.steps=100000", "train.checkpoint_every=100000"))
    while not log.exists() or "step 4 of" not in log.read_text():
        assert all(process.is_alive() for process in processes), log.read_text()
        time.sleep(0.02)
    processes[1].kill()
    assert finish(processes[0]) == 2, log.read_text()
    (path,) = (tmp_path / "quickstart" / "checkpoints").glob("step-*")
    assert int(path.stem.removeprefix("step-")) >= 4
    assert "ttrd3: error: another process of this training has ended" in log.read_text()
    assert "Traceback" not in log.read_text()


def command(tmp_path, *settings, module=("ttrd3",)):
    return subprocess.Popen(
        [sys.executable, "-m", *module, *words(tmp_path, *settings)], text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def test_the_command_starts_its_processes_and_ctrl_c_stops_them(tmp_path):
    settings = ("train.processes=2", "train.steps=100000", "train.log_every=1", "train.checkpoint_every=100000")
    process = command(tmp_path, *settings)
    log = tmp_path / "quickstart" / "train.log"
    while not (log.exists() and "step 2 of" in log.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("finishing this step") == 1
    stopped = int(re.search(r"stopped after step (\d+)", err).group(1))
    assert (tmp_path / f"quickstart/checkpoints/step-{stopped:08d}.safetensors").exists()
    assert "Traceback" not in out + err
    assert "2 processes, each on cpu" in err


def test_torchrun(tmp_path):
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ttrd3")
    out, err = command(tmp_path, "train.steps=1", module=launcher).communicate(timeout=120)
    assert "step 1 of 1" not in out
    assert "2 processes, each on cpu" in err
    assert "psnr" in out
    assert (tmp_path / "quickstart/validation/step-00000001/results.json").exists()


def test_a_batch_that_cannot_be_shared(tiny):
    options = tiny("train.processes=3", "train.batch_size=4")
    with pytest.raises(ConfigError, match=r"train\.batch_size: found 4, but train\.processes is 3.*multiple of 3"):
        launch.processes([options])
    assert launch.processes([tiny("train.processes=2", "train.batch_size=4")]) == 2
    assert launch.processes([tiny()]) == 1
