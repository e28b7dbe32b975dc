"""The end of `ttrd3 val`: the page to look at, for every way to take references, and without one where none can be."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.data.index import read_header
from ttrd3.environment import ROOT
from ttrd3.inference.describe import descriptor_of_index
from ttrd3.reports.material import Material
from ttrd3.reports.page import write_report
from ttrd3.reports.runs import find_validation, read_run


@pytest.fixture
def val(validations, tmp_path):
    """`val(setting, ...)` -> exit code and folder of a validation of two tiles with the weights of `validations`."""

    def run(*more: str):
        settings = [f"data.{part}.root={validations.data}" for part in ("train", "val")]
        settings += [f"output={tmp_path / 'runs'}", "name=tiny", f"weights={validations.run / 'weights.safetensors'}"]
        settings += ["data.val.crop=null", "data.val.limit=2", *more]
        code = main(["val", str(ROOT / "options" / "quickstart.yml"), *TINY, *settings])
        return code, find_validation(tmp_path / "runs" / "tiny")

    return run


def make_index(validations, path, *more):
    words = ["--library", validations.data, "--out", path, "--device", "cpu", "--workers", "1", *more]
    assert main(["index", *map(str, words)]) == 0


def require_report(folder, validations, capsys):
    """A page was made, may be made again, and shows the first of the references that each image had."""
    shown = capsys.readouterr()
    assert "report.html was not made" not in shown.err
    assert f"report    {folder / 'report.html'}" in shown.out
    assert "</html>" in (folder / "report.html").read_text()
    assert main(["report", str(folder), "--out", str(folder / "again.html")]) == 0
    run = read_run(folder)
    material = Material(run, describe=partial(descriptor_of_index, device=torch.device("cpu")))
    assert len(run.entries) == 2
    for key, entry in run.entries.items():
        first = np.asarray(Image.open(validations.data / entry.reference.split(" + ")[0]))
        np.testing.assert_array_equal(material[key].reference, first)
    return run


def test_several_references_of_an_index_named_from_the_checkout(val, validations, tmp_path, monkeypatch, capsys):
    make_index(validations, tmp_path / "here" / "mine.index")
    monkeypatch.setattr("ttrd3.paths.ROOT", tmp_path / "here")
    code, folder = val("data.val.reference=retrieved", "data.val.references=3", "data.val.index=mine.index")
    assert code == 0
    run = require_report(folder, validations, capsys)
    assert run.protocol["index"] == "mine.index"
    assert all(entry.reference.count(" + ") == 2 for entry in run.entries.values())


def test_an_index_by_the_encoder(val, validations, tmp_path, capsys):
    path = tmp_path / "mfab.index"
    make_index(validations, path, "--weights", validations.run / "weights.safetensors")
    assert read_header(path).kind.startswith("mfab-1 ")
    code, folder = val("data.val.reference=retrieved", f"data.val.index={path}")
    assert code == 0
    require_report(folder, validations, capsys)


def test_room_for_several_references_and_none_taken(val, capsys):
    code, folder = val("data.val.reference=none", "data.val.references=2")
    assert code == 0
    assert "report.html was not made" not in capsys.readouterr().err
    assert (folder / "report.html").is_file()
    run = read_run(folder)
    assert Material(run)[next(iter(run.entries))].reference is None


def test_a_report_that_cannot_be_made_does_not_end_the_command(val, monkeypatch, capsys):
    monkeypatch.setitem(write_report.__kwdefaults__, "megabytes", 0.305)
    code, folder = val()
    assert code == 0
    shown = capsys.readouterr()
    assert "warning: report.html was not made: --megabytes: the pictures do not fit" in shown.err
    assert f"`ttrd3 report {folder}` makes it with other settings" in shown.err
    assert f"results   {folder / 'results.md'}" in shown.out
    assert "report  " not in shown.out
    assert {path.name for path in folder.iterdir()} >= {"results.json", "results.md", "per_image.csv", "images"}
    assert not (folder / "report.html").exists()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").is_file()
