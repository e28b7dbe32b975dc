"""train.sh, val.sh and scripts/env.sh, run for real in tiny checkouts whose only requirement is a tiny wheel."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from helpers import listen_to_ctrl_c

ROOT = Path(__file__).resolve().parents[1]
SHELL_FILES = [ROOT / "train.sh", ROOT / "val.sh", *sorted((ROOT / "scripts").glob("*.sh"))]
SYSTEM_TOOLS = ["sh", "awk", "cat", "cksum", "df", "dirname", "mkdir", "rm", "rmdir", "sleep", "uname"]
BASE_PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")

PROBE = """set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$ROOT/scripts/env.sh"
use_environment requirements.txt
exec "$PYTHON" -c 'import sys; print(sys.executable); import tiny; print(tiny.version)'
"""


def clean(**variables: str) -> dict[str, str]:
    """The environment without what points at a Python, and without a package index."""
    kept = {"HOME", "TMPDIR", "LANG"}
    return {name: text for name, text in os.environ.items() if name in kept} | {"PIP_NO_INDEX": "1"} | variables


def make_wheel(folder: Path, version: str) -> None:
    """A wheel `tiny` of one line."""
    folder.mkdir(exist_ok=True)
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


class Checkout:
    """A folder with env.sh, a probe that uses it, and a PATH of its own."""

    def __init__(self, folder: Path):
        self.root = folder / "a checkout"  # a space, as in "My Documents"
        self.bin = folder / "bin"
        self.lock = self.root / ".venv.partial"
        (self.root / "scripts").mkdir(parents=True)
        (self.root / "codes" / "ttrd3").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "env.sh", self.root / "scripts")
        shutil.copy(ROOT / "codes" / "ttrd3" / "environment.py", self.root / "codes" / "ttrd3")
        (self.root / "codes" / "ttrd3" / "__init__.py").touch()
        (self.root / "probe.sh").write_text(PROBE)
        self.require("1.0")
        for version in ("1.0", "1.1"):
            make_wheel(folder / "wheels", version)
        self.bin.mkdir()
        for tool in SYSTEM_TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.environment = clean(PATH=str(self.bin), PIP_FIND_LINKS=str(folder / "wheels"))

    def require(self, version: str) -> None:
        (self.root / "requirements.txt").write_text(f"tiny=={version}  # for the tests\n")

    def add_python(self, name: str = "python3", before: str = "") -> None:
        """An interpreter of that name in PATH: the real one behind shell lines that may answer first."""
        program = self.bin / name
        program.write_text(f'#!/bin/sh\n{before}\nexec {BASE_PYTHON} "$@"\n')
        program.chmod(0o755)

    def start(self, **variables: str) -> subprocess.Popen:
        command = ["sh", str(self.root / "probe.sh")]
        return subprocess.Popen(
            command,
            cwd=self.root.parent,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=listen_to_ctrl_c,
        )

    def run(self, **variables: str) -> subprocess.CompletedProcess:
        process = self.start(**variables)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def stamps(self) -> list[str]:
        return sorted(path.name for path in (self.root / ".venv").glob(".installed-*"))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Checkout:
    """A checkout whose .venv is made; tests leave it with tiny 1.0 or change the requirement themselves."""
    checkout = Checkout(tmp_path_factory.mktemp("made"))
    checkout.add_python()
    answer = checkout.run()
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"{checkout.root}/.venv/bin/python\n1.0\n"
    assert "making" in answer.stderr
    assert "GB free" in answer.stderr
    assert "installing requirements.txt" in answer.stderr
    return checkout


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
@pytest.mark.parametrize("path", SHELL_FILES, ids=lambda path: path.name)
def test_shell_files_are_well_formed(shell, path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", str(path)], check=True)


def test_ci_runs_the_test_script():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "scripts/test.sh" in run.read_text()


@pytest.mark.parametrize("script", ["train", "val"])
def test_entry_points_use_an_active_environment_from_any_folder(script, tmp_path: Path):
    (tmp_path / "yaml.py").write_text("raise SystemExit('took a module of the working directory')\n")
    answer = subprocess.run(
        ["sh", str(ROOT / f"{script}.sh"), "--help"],
        cwd=tmp_path,
        env=clean(PATH=os.environ["PATH"], TTRD3_PYTHON=sys.executable, PYTHONPATH=str(ROOT / "codes")),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"usage: ttrd3 {script} ")
    assert answer.stderr == ""


# --- finding Python ---


def refused(answer: subprocess.CompletedProcess, checkout: Checkout) -> str:
    """The one error message; nothing half-made is left."""
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert not checkout.lock.exists()
    assert checkout.stamps() == []
    return next(line for line in answer.stderr.splitlines() if line.startswith("ttrd3: error: "))


def test_no_python(checkout):
    message = refused(checkout.run(), checkout)
    assert "Expected: Python >= 3.11" in message
    assert "Found: none of them." in message
    assert "https://www.python.org/downloads" in message


def test_pythons_that_are_too_old_broken_or_without_venv_are_listed(checkout):
    old = 'case "$2" in *platform*) echo 3.9.2;; *) exit 1;; esac; exit 0'
    checkout.add_python("python3", before=old)
    checkout.add_python("python3.12", before="exit 127")
    checkout.add_python("python3.11", before='case "$2" in *ensurepip*) exit 1;; esac')
    message = refused(checkout.run(), checkout)
    assert "python3 (3.9.2)," in message
    assert "python3.12 (does not run)," in message
    assert "without the venv module: on Debian and Ubuntu 'sudo apt install python3-venv')." in message
    assert not (checkout.root / ".venv").exists()


def test_takes_another_name_where_python3_is_too_old(checkout):
    checkout.add_python("python3", before="exit 1")
    checkout.add_python("python3.11")
    answer = checkout.run()
    assert answer.returncode == 0, answer.stderr
    assert "with python3.11 " in answer.stderr


def test_named_python_that_is_not_there(checkout):
    checkout.add_python()
    message = refused(checkout.run(TTRD3_PYTHON="/nowhere/python"), checkout)
    assert "one of: /nowhere/python. Found: none of them" in message


def test_uses_an_active_environment_that_has_everything(checkout):
    checkout.add_python("python")
    wheel = checkout.root.parent / "wheels" / "tiny-1.0-py3-none-any.whl"
    paths = {"PYTHONPATH": f"{checkout.root / 'codes'}:{wheel}"}
    answer = checkout.run(**paths)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.endswith("1.0\n")
    assert answer.stderr == ""
    assert not (checkout.root / ".venv").exists()


def test_an_active_environment_with_another_version_is_not_used(made):
    made.require("1.0")
    wheel = made.root.parent / "wheels" / "tiny-1.1-py3-none-any.whl"
    answer = made.run(PYTHONPATH=f"{made.root / 'codes'}:{wheel}")
    assert answer.stdout.startswith(f"{made.root}/.venv/bin/python\n")


# --- installing ---


def test_the_second_run_has_nothing_to_do_and_says_nothing(made):
    made.require("1.0")
    made.run()
    answer = made.run()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert not made.lock.exists()


def test_a_changed_requirement_is_installed(made):
    made.require("1.1")
    answer = made.run()
    assert answer.stdout.endswith("\n1.1\n")
    assert "making" not in answer.stderr
    assert made.run().stderr == ""


def test_an_installation_without_its_stamp_is_taken_up_again(made):
    made.require("1.0")
    made.run()
    (made.root / ".venv" / ".installed-requirements.txt").unlink()
    answer = made.run()
    assert answer.returncode == 0
    assert "installing requirements.txt" in answer.stderr
    assert made.stamps() == [".installed-requirements.txt"]


def test_an_environment_that_does_not_run_is_made_anew(made):
    made.require("1.0")
    made.run()
    for link in (made.root / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python3")
    answer = made.run()
    assert answer.returncode == 0, answer.stderr
    assert "making" in answer.stderr
    assert answer.stdout.endswith("\n1.0\n")


def test_a_failing_pip_is_one_clear_message_and_the_next_run_goes_on(made):
    made.require("9.9")
    (made.root / ".venv" / ".installed-requirements.txt").unlink(missing_ok=True)
    message = refused(made.run(), made)
    assert "pip could not install requirements.txt" in message
    assert "PIP_INDEX_URL" in message
    made.require("1.0")
    assert made.run().stdout.endswith("\n1.0\n")


def test_named_python_of_another_version_than_the_environment(made):
    made.require("1.0")
    made.run()
    made.add_python("other", before='case "$2" in *platform*) echo 3.99.0; exit 0;; esac')
    answer = made.run(TTRD3_PYTHON=str(made.bin / "other"))
    assert answer.returncode == 2
    assert "is Python 3.99.0, but" in answer.stderr
    assert made.run().returncode == 0


def test_two_runs_at_once_install_once(checkout):
    checkout.add_python()
    first, second = checkout.start(), checkout.start()
    answers = [process.communicate(timeout=90) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    assert [out.splitlines()[-1] for out, _ in answers] == ["1.0", "1.0"]
    messages = "".join(err for _, err in answers)
    assert messages.count("ttrd3: making") == 1
    assert messages.count("ttrd3: installing") == 1
    assert messages.count("another run is installing") == 1
    assert not checkout.lock.exists()


def take(checkout: Checkout, owner: str | None) -> None:
    """Make the lock of another run, and work for the one that comes."""
    checkout.require("1.0")
    (checkout.root / ".venv" / ".installed-requirements.txt").unlink(missing_ok=True)
    checkout.lock.mkdir()
    if owner is not None:
        (checkout.lock / "owner").write_text(owner + "\n")


def test_the_lock_of_a_killed_run_is_taken_over(made):
    gone = subprocess.Popen(["true"])
    gone.wait()
    take(made, f"{os.uname().nodename} {gone.pid}")
    runs = [made.start() for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0], answers
    assert "".join(err for _, err in answers).count("ttrd3: installing") == 1
    assert not made.lock.exists()


@pytest.mark.parametrize(
    "owner",
    [f"{os.uname().nodename} {os.getpid()}", "another-host 1", None],
    ids=["live", "distant", "not named yet"],  # process ids would give pytest-xdist's workers different names
)
def test_the_lock_of_a_live_or_distant_run_is_waited_for(made, owner):
    take(made, owner)
    process = made.start()
    time.sleep(1.5)
    assert process.poll() is None
    assert made.lock.exists()
    shutil.rmtree(made.lock)  # the other run is done
    out, err = process.communicate(timeout=60)
    assert out.endswith("\n1.0\n")
    assert "another run is installing" in err
    assert "If there is none, remove that folder" in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_installation_leaves_no_lock_and_no_stamp(checkout, sent, code):
    # A pip that takes its time: making the environment succeeds, filling it does not end by itself.
    slow = checkout.bin / "slow"
    slow.write_text('#!/bin/sh\nif [ "$3" = install ]; then echo at work >&2; exec sleep 60; fi\n')
    slow.chmod(0o755)
    (checkout.bin / "cp").symlink_to(shutil.which("cp"))
    checkout.add_python(before=f'if [ "$2" = venv ]; then mkdir -p "$4/bin"; cp {slow} "$4/bin/python"; exit; fi')
    process = checkout.start()
    while process.stderr.readline() != "at work\n":
        assert process.poll() is None
    assert (checkout.lock / "owner").read_text() == f"{os.uname().nodename} {process.pid}\n"
    os.killpg(process.pid, sent)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not checkout.lock.exists()
    assert checkout.stamps() == []
