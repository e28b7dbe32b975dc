"""scripts/compare_designs.py: designs trained for the same time, each with as many steps as fit into it."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import TINY

from ttrd3.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    """The script, whose trainings run in this process: importing torch for each takes longer than they do."""
    spec = importlib.util.spec_from_file_location("compare_designs", ROOT / "scripts" / "compare_designs.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare_designs", module)  # a dataclass looks its module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TRIAL_STEPS", 4)
    module.trained = []

    def run(command, check):
        assert command[:4] == [sys.executable, "-P", "-m", "ttrd3"]
        assert check
        assert main(command[4:]) == 0
        module.trained.append(command)

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))
    return module


@pytest.fixture
def compare(script, monkeypatch, tmp_path):
    def compare(*designs, minutes):
        words = ["--base", str(ROOT / "options" / "quickstart.yml"), "--minutes", minutes, "--out"]
        words += [str(tmp_path / "designs.md"), "--common", *TINY, f"output={tmp_path / 'runs'}"]
        monkeypatch.setattr(sys, "argv", ["compare_designs.py", *words, *(w for d in designs for w in ("--design", d))])
        script.main()
        return (tmp_path / "designs.md").read_text().splitlines()

    return compare


def test_each_design_has_a_row_with_what_it_changes_and_the_best_is_first(compare, script):
    head, _, *rows = compare("plain", "wider model.unet.width=16", minutes="0.01")
    assert head.startswith("| design | changes |")
    cells = {row.split(" | ")[0].strip("| "): row.strip("| ").split(" | ") for row in rows}
    assert set(cells) == {"plain", "wider"}
    assert [cells[name][1] for name in ("plain", "wider")] == ["nothing", "`model.unet.width=16`"]
    parameters = [float(cells[name][2].removesuffix(" M")) for name in ("plain", "wider")]
    assert parameters[0] < parameters[1]
    gains = [float(row.strip("| ").split(" | ")[5].removesuffix(" dB")) for row in rows]
    assert gains == sorted(gains, reverse=True)
    counted = {c[-2].removeprefix("name=designs-"): c[-1] for c in script.trained if c[-2].startswith("name=")}
    assert counted == {name: f"train.steps={cells[name][4]}" for name in cells}


def test_a_time_too_short_for_a_step_still_trains_one(compare):
    assert compare("plain", minutes="1e-9")[-1].split(" | ")[4] == "1"
