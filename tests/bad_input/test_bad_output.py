"""Outputs that cannot be written, disks that are full, devices that are not there.

Permission bits do not bind root, so that "read-only" is a path below a regular file, and, where the system lets a
process mount a file system of its own (Linux user namespaces), one that is really read-only or really full.
"""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from data.builders import class_folders

from ttrd3.__main__ import main
from ttrd3.environment import ROOT


def test_below_a_file(refused, tiny_words, trained, tmp_path):
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "file" / "runs"
    assert f"output: {out}/quickstart" in refused(*tiny_words("train", f"output={out}"))
    message = refused(*tiny_words("val", f"output={out}", f"weights={trained / 'weights.safetensors'}"))
    assert "cannot be written (Not a directory). Set output to a folder that can be" in message
    raw = class_folders(tmp_path / "raw", {"forest": 1})
    message = refused("prepare", "--source", raw, "--out", out, "--tile", 32, "--workers", 1)
    assert f"--out: {out} cannot be written (Not a directory). Set --out to a folder that can be" in message
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["tensorboard", "checkpoints", "train.log"])
def test_something_else_in_the_place_of_a_part_of_the_run_folder(capsys, tiny_words, tmp_path, name):
    place = tmp_path / "runs" / "quickstart" / name
    place.parent.mkdir(parents=True)
    place.mkdir() if name == "train.log" else place.write_text("")
    assert main(tiny_words("train")) == 2
    err = capsys.readouterr().err
    assert err.count("ttrd3: error: ") == 1
    assert f"{place}" in err
    assert "cannot be written" in err
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there(refused, tiny_words, trained):
    for device in ("cuda", "cuda:3"):
        for words in (tiny_words("train", f"device={device}", "name=new"), tiny_words("val", f"device={device}")):
            message = refused(*words)
            assert f"device: found {device}, but this machine offers 0 CUDA devices" in message
            assert "device=cpu" in message


# --- file systems of our own ---


def mount(folder, options, *words, during="true"):
    """Run `ttrd3 word ...` with a small file system at `folder`; its output ends with the half-written files there."""
    script = (
        'folder=$1; mount -t tmpfs -o "$2" tmpfs "$folder" || exit 99; sh -c "$3" sh "$folder" & shift 3; '
        '"$@"; code=$?; kill $! 2>/dev/null; find "$folder" -name "*.partial"; exit $code'
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), options, during]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, sys.executable, "-m", "ttrd3", *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def mounted(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    able = shutil.which("unshare") and subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True
    )
    if not able or able.returncode:
        pytest.skip("no file system can be mounted here")
    return folder


def is_refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("ttrd3: error: ") == 1
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stdout
    return done.stderr.partition("ttrd3: error: ")[2]


def test_a_read_only_file_system(mounted, tmp_path):
    raw = class_folders(tmp_path / "raw", {"forest": 1})
    message = is_refused(mount(mounted, "ro", "prepare", "--source", raw, "--out", mounted / "out", "--tile", 32))
    assert message.startswith(f"--out: {mounted}/out cannot be written (Read-only file system). Set --out to a folder")


def test_a_disk_too_small_for_the_checkpoints(mounted, tiny_words):
    message = is_refused(mount(mounted, "size=300k", *tiny_words("train", f"output={mounted}")))
    assert message.startswith(f"{mounted}/quickstart: 0.31 MB free, but keeping checkpoints needs about ")


FILL = 'until [ -s "$1/quickstart/train.log" ]; do sleep 0.02; done; dd if=/dev/zero of="$1/fill" bs=1k 2>/dev/null'


def test_a_disk_that_fills_up_while_training(mounted, tiny_words):
    """Whichever file is the first to find no room, a log, a checkpoint or TensorBoard's: it is told once."""
    words = tiny_words("train", f"output={mounted}", "train.steps=500", "train.log_every=1", "train.checkpoint_every=5")
    message = is_refused(mount(mounted, "size=6m", *words, during=FILL))
    assert message.startswith(f"{mounted}/quickstart/")
    assert "cannot be written" in message
    assert "No space left on device" in message
