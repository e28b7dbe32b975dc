import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ttrd3.__main__ import main
from ttrd3.environment import ROOT, requirements


def doctor(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run `ttrd3 doctor` from another copy of the package, in its folder."""
    paths = [str(checkout / "shims"), str(checkout / "codes")]
    return subprocess.run(
        [sys.executable, "-P", "-m", "ttrd3", "doctor", *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package without git, whose only pin is one that the tests have."""
    shutil.copytree(
        ROOT / "codes" / "ttrd3", tmp_path / "codes" / "ttrd3", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "requirements.txt").write_text(f"pytest=={pytest.__version__}  # is here\n")
    return tmp_path


def break_torch(checkout: Path) -> None:
    shim = checkout / "shims" / "torch.py"
    shim.parent.mkdir()
    shim.write_text("raise OSError('libtorch_cpu.so: cannot open shared object file')\n")


def test_json_is_complete_and_true(capsys):
    code = main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    pins = requirements()
    assert code == (0 if findings["healthy"] else 1)
    assert findings["healthy"] == all(pin.satisfied for pin in pins)
    assert [pin["name"] for pin in findings["requirements"]] == [pin.name for pin in pins]
    assert findings["cpus"] >= 1
    assert findings["disk"]["free"] > 0
    assert bool(findings["gpus"]) != bool(findings["no_gpu"])
    assert {Path(entry["path"]).name for entry in findings["weights"]} >= {
        "vgg19-dcbb9e9d.pth",
        "squeezenet1_1-b8a52dc0.pth",
    }


def test_table_of_a_healthy_checkout_with_damaged_weights(checkout: Path):
    weights = checkout / "cache" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half of a download")
    answer = doctor(checkout, TORCH_HOME=str(checkout / "cache"))
    assert answer.returncode == 0, answer.stderr
    assert "commit unknown (no git checkout)" in answer.stdout
    assert f"trunk vgg19       damaged at {weights}" in answer.stdout
    assert "trunk squeezenet  missing at " in answer.stdout
    assert "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth" in answer.stdout
    assert "verdict           healthy" in answer.stdout


def test_works_with_a_broken_torch_and_a_wrong_version(checkout: Path):
    break_torch(checkout)
    (checkout / "requirements.txt").write_text("pytest==0.0.1  # old\nno-such-package==1.0  # none\n-e .  # ours\n")
    answer = doctor(checkout)
    assert answer.returncode == 1
    assert answer.stderr == ""
    assert f"pytest            {pytest.__version__}   <-- expected 0.0.1" in answer.stdout
    assert "no-such-package   not installed   <-- expected 1.0" in answer.stdout
    assert "OSError: libtorch_cpu.so" in answer.stdout
    assert "not healthy: pytest, no-such-package differ" in answer.stdout


def test_a_torch_that_cannot_be_imported_is_not_healthy(checkout: Path):
    break_torch(checkout)
    answer = doctor(checkout)
    assert answer.returncode == 1
    assert "not healthy: OSError: libtorch_cpu.so" in answer.stdout


def test_without_a_checkout_the_requirements_are_unknown(checkout: Path):
    break_torch(checkout)
    (checkout / "requirements.txt").unlink()
    answer = doctor(checkout, "--json")
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["requirements"] == []
