"""Real files that `ttrd3 import-released` must refuse: one message, exit code 2, nothing run, nothing written."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hollow import hollow_checkpoint, saved
from safetensors.torch import save_file

from ttrd3.__main__ import main
from ttrd3.released.read import read_released


class Program:
    """Pickles as a call of os.system."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


def write_zip(path, mark):
    saved(hollow_checkpoint() | {"scaler": Program(mark)}, path)


def write_legacy(path, mark):
    torch.save({"scaler": Program(mark)}, path, _use_new_zipfile_serialization=False)


def write_pickle(path, mark):
    path.write_bytes(pickle.dumps({"refnet": Program(mark)}))


def write_first_protocol(path, mark):
    path.write_bytes(b"\x80\x02" + pickle.dumps(Program(mark), protocol=0))


def write_module(path, mark):
    torch.save(torch.nn.Linear(2, 2), path)


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(path)` imports it through the command, and returns the message."""

    def run(path, *words) -> str:
        before = set(tmp_path.rglob("*"))
        code = main(["import-released", str(path), "--out", str(tmp_path / "new/w.safetensors"), *words])
        err = capsys.readouterr().err
        assert code == 2, err
        assert err.count("ttrd3: error: ") == 1
        assert "Traceback" not in err
        assert set(tmp_path.rglob("*")) == before
        return err.removeprefix("ttrd3: error: ")

    return run


RUNS_CODE = {
    "zip": (write_zip, "posix.system"),
    "legacy": (write_legacy, "posix.system"),
    "pickle": (write_pickle, "posix.system"),
    "first protocol": (write_first_protocol, "posix.system"),
    "module": (write_module, "torch.nn.modules.linear.Linear"),
}


@pytest.mark.parametrize("case", RUNS_CODE)
def test_a_file_that_wants_to_run_code_is_refused_and_runs_none(refused, tmp_path, case):
    write, name = RUNS_CODE[case]
    path = tmp_path / "model 300.pt"
    write(path, tmp_path / "mark")
    message = refused(path)
    assert message.startswith(f"{path}: asks to call {name} while it is read")
    assert "Nothing of it was run" in message
    assert not (tmp_path / "mark").exists()


def write_cut(path):
    saved(hollow_checkpoint(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_cut_at_the_end(path):
    saved(hollow_checkpoint(), path)
    path.write_bytes(path.read_bytes()[:-10])


def write_flipped(path):
    saved({"refnet": torch.arange(10000.0)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_legacy_cut(path):
    torch.save({"refnet": torch.zeros(10000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:20000])


def write_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def write_script(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("a/version", "3\n")
        archive.writestr("a/constants.pkl", b"\x80\x02).")


BAD = {
    "missing": (lambda path: None, "there is no such file"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "page": (lambda path: path.write_text("<html>404</html>"), "was not written by torch.save"),
    "cut": (write_cut, "is truncated or damaged"),
    "cut at the end": (write_cut_at_the_end, "is truncated or damaged"),
    "flipped": (write_flipped, "data/0 in it has another checksum"),
    "legacy cut": (write_legacy_cut, "is no checkpoint, or a damaged one"),
    "plain pickle": (lambda path: path.write_bytes(pickle.dumps([1, 2])), "is no checkpoint, or a damaged one"),
    "pickle of nothing": (lambda path: path.write_bytes(b"\x80"), "is no checkpoint, or a damaged one"),
    "archive": (write_archive, "is no checkpoint, or a damaged one"),
    "script": (write_script, "is a TorchScript program"),
    "safetensors": (lambda path: save_file({"a": torch.zeros(3)}, path), "is a safetensors file; weights in this"),
    "other program": (lambda path: saved({"state_dict": {}}, path), "is no checkpoint of TTRD3 (at its top: state_d"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_none_of_the_authors(refused, tmp_path, case):
    write, text = BAD[case]
    path = tmp_path / "model-300.pt"
    write(path)
    message = refused(path)
    assert message.startswith(f"{path}: {text}") or (message.startswith(f"{path}: ") and text in message)
    assert "xpected a released checkpoint" in message or "again" in message or "Expected the authors'" in message


def test_what_is_refused_by_its_content(refused, tmp_path):
    content = hollow_checkpoint()
    del content["ema"]
    assert "holds no averaged (EMA) UNet" in refused(saved(content, tmp_path / "a.pt"))
    content = hollow_checkpoint()
    content["refnet"]["STTG.more"] = torch.zeros(2)
    assert "unknown (1):\n    refnet.STTG.more\n" in refused(saved(content, tmp_path / "b.pt"))
    content = hollow_checkpoint()
    content["ema_ref"] = {}
    assert "Choose the other with --texture-net" in refused(saved(content, tmp_path / "c.pt"), "--texture-net", "ema")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that never can be read is Linux's own")
def test_a_file_whose_disk_fails(refused):
    assert refused("/proc/self/mem").startswith("/proc/self/mem: cannot be read (Input/output error)")


def test_the_older_format_of_torch_is_read_too(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=False)
    assert read_released(path)["a"].tolist() == [0, 1, 2]
