"""What a run leaves behind and where: options, environment, log, checkpoints, weights, validation."""

import json
import logging
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ttrd3 import __version__, config, environment
from ttrd3.engine.options import Options
from ttrd3.errors import UserError
from ttrd3.files import PARTIAL, Lock, require_writable, write_text
from ttrd3.paths import output_path

STEP_DIGITS = 8


class RunFolder:
    """Paths inside `output/name`."""

    def __init__(self, options: Options):
        self.path = output_path(options.output) / options.name
        self.weights = self.path / "weights.safetensors"
        self.best = self.path / "best.safetensors"
        self.lock = Lock(self.path / "run.lock")
        self.log = self.path / "train.log"
        self.tensorboard = self.path / "tensorboard"

    def occupy(self) -> None:
        """Lock the folder for this process.

        Raises:
            UserError: Another training is using it.
        """
        if not self.lock.held:
            self.lock.take(f"run folder {self.path}")

    def create(self) -> None:
        """Make the folder and those that training fills, proving that they can be written, and lock it.

        Raises:
            UserError: It cannot be written, or another training is using it.
        """
        for folder in (self.path, self.tensorboard, self.path / "checkpoints"):
            require_writable(folder, "output")
        self.occupy()
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a training that was killed had half-written; the lock says that none is running."""
        places = ((self.path, f".*{PARTIAL}"), (self.path / "checkpoints", f".*{PARTIAL}"))
        for folder, pattern in (*places, (self.path / "validation", f".step-{'?' * STEP_DIGITS}.*{PARTIAL}*")):
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of `step` goes."""
        return self.path / "checkpoints" / f"step-{step:0{STEP_DIGITS}d}.safetensors"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"), reverse=True)

    def validations(self) -> dict[int, Path]:
        """The results of each step that training has validated."""
        found = (self.path / "validation").glob(f"step-{'[0-9]' * STEP_DIGITS}/results.json")
        return {int(path.parent.name.removeprefix("step-")): path for path in sorted(found)}

    def validation(self, label: str) -> Path:
        """Where the results of the weights called `label` go."""
        return self.path / "validation" / label

    def describe(self, options: Options, device: torch.device, step: int, processes: int) -> None:
        """Write the resolved options, and add to the record of environments: versions, commit, device, seed."""
        write_text(self.path / "options.yml", config.to_yaml(options))
        path = self.path / "environment.json"
        sessions = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        record = {
            "from_step": step,
            "ttrd3": __version__,
            "commit": environment.commit(),
            "seed": options.seed,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": device_name(device),
            "processes": processes,
            "cpu_threads": torch.get_num_threads(),
            "packages": {pin.name: pin.found for pin in environment.requirements()},
        }
        write_text(path, json.dumps([*sessions, record], indent=1) + "\n")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Append what is logged meanwhile to train.log, with times, whatever the terminal shows of it."""
        handler = _LogFile(self.log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.setLevel(logging.INFO)
        package = logging.getLogger("ttrd3")
        former = package.level
        package.addHandler(handler)
        if package.getEffectiveLevel() > logging.INFO:  # used as a library, without the command's own setting
            package.setLevel(logging.INFO)
        try:
            yield
        finally:
            package.setLevel(former)
            package.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    """A log file that, where it cannot be written, says so as any other file does, not by a traceback a line."""

    def __init__(self, path: Path):
        try:
            super().__init__(path, encoding="utf-8")
        except OSError as error:
            raise self._unwritable(path, error) from error

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        error = sys.exception()
        raise self._unwritable(Path(self.baseFilename), error) from error

    @staticmethod
    def _unwritable(path: Path, error: BaseException | None) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(f"{path}: cannot be written ({reason}). Free some space, or set output to another folder.")


def step_label(step: int) -> str:
    """The name of a step's validation folder."""
    return f"step-{step:0{STEP_DIGITS}d}"


def device_name(device: torch.device) -> str:
    """ "NVIDIA H100" or the processor's name, as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", information.read_text(), re.MULTILINE) if information.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()
