"""scripts/compare_designs.py: designs trained for the same time, each with steps for it, in one table."""

import importlib.util
import sys
from pathlib import Path

import pytest
from helpers import TINY

from ttrd3.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_designs", ROOT / "scripts" / "compare_designs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run_here(words, check):
    """A training without a process of its own: importing PyTorch four times takes longer than the trainings."""
    assert check
    assert words[:4] == [sys.executable, "-P", "-m", "ttrd3"]
    assert main(words[4:]) == 0


def test_two_designs(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "TRIAL_STEPS", 20)
    monkeypatch.setattr(script.subprocess, "run", run_here)
    options = ["--base", str(ROOT / "options" / "quickstart.yml"), "--minutes", "0.02"]
    common = ["--common", *TINY, f"output={tmp_path / 'runs'}", "val.pictures=0"]
    designs = ["--design", "narrow", "--design", "wide model.encoder.hidden=8"]
    out = tmp_path / "designs.md"
    monkeypatch.setattr(sys, "argv", ["compare_designs.py", *options, *common, *designs, "--out", str(out)])
    script.main()
    header, _, *rows = out.read_text().splitlines()
    cells = {row.split(" | ")[0].strip("| "): [cell.strip("| ") for cell in row.split(" | ")] for row in rows}
    assert header.count("|") == rows[0].count("|")
    assert set(cells) == {"narrow", "wide"}
    assert cells["narrow"][1] == "nothing"
    assert cells["wide"][1] == "`model.encoder.hidden=8`"
    for name, (_, _, parameters, speed, steps, psnr, _) in cells.items():
        assert float(parameters.removesuffix(" M")) > 0
        # The speed that decides on the steps is the trial's: 1.2 seconds of batches of two.
        logged = (tmp_path / "runs" / f"designs-{name}-speed" / "train.log").read_text()
        speeds = sorted(float(found) for found in script.SPEED.findall(logged))
        assert int(steps) == round(0.02 * 60 * speeds[len(speeds) // 2] / 2)
        assert float(speed) > 0
        assert psnr.endswith(" dB")
    gains = [float(row.split(" | ")[5].removesuffix(" dB")) for row in rows]
    assert gains == sorted(gains, reverse=True)  # the best first
