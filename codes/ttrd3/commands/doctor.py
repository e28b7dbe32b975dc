"""Show what this machine offers: versions, devices, free memory and disk, and which optional weights are found.

Exit code 0 where every requirement is installed in its pinned version, 1 otherwise.

Examples:
  ttrd3 doctor
  ttrd3 doctor --json > machine.json
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from ttrd3 import __version__, environment
from ttrd3.files import sha256

GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ttrd3 doctor`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if every requirement is there in its pinned version, else 1."""
    findings = examine()
    if args.json:
        print(json.dumps(findings, indent=2))
    else:
        rows = list(_rows(findings))
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:{width}}  {text}".rstrip() for name, text in rows))
    return 0 if findings["healthy"] else 1


def examine() -> dict[str, Any]:
    """All findings as plain values; memory and disk in bytes. Works without torch, and says so."""
    pins = environment.requirements()
    torch, torch_problem = _torch()
    devices, no_gpu = _gpus(torch) if torch else ([], f"torch cannot be used: {torch_problem}")
    return {
        "healthy": bool(pins) and torch is not None and all(pin.satisfied for pin in pins),
        "ttrd3": {"version": __version__, "commit": environment.commit(), "folder": str(environment.ROOT)},
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "requirements": [asdict(pin) | {"satisfied": pin.satisfied} for pin in pins],
        "torch_problem": torch_problem,
        "cpus": environment.cores(),
        "gpus": devices,
        "no_gpu": no_gpu,
        "free_memory": _free_memory(),
        "disk": {"folder": str(Path.cwd()), "free": shutil.disk_usage(Path.cwd()).free},
        "weights": _weights() if torch else [],
    }


def _torch() -> tuple[ModuleType | None, str | None]:
    try:
        import torch
        import torchvision  # noqa: F401  (a torchvision of another torch fails here, not later in a loss)
    except Exception as error:  # a broken installation raises ImportError, OSError, RuntimeError, AttributeError ...
        return None, f"{type(error).__name__}: {error}"
    return torch, None


def _gpus(torch: ModuleType) -> tuple[list[dict[str, Any]], str | None]:
    """The CUDA devices, or why there is none."""
    if torch.version.cuda is None:
        return [], f"torch {torch.__version__} was built without CUDA"
    with warnings.catch_warnings(record=True) as caught:  # torch warns about a driver that is too old
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        driver = _driver()
        reason = f"driver {driver} does not work with it" if driver else "no NVIDIA driver answers"
        reason = str(caught[0].message) if caught else reason
        return [], f"torch is built for CUDA {torch.version.cuda}, but {reason}"
    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        devices.append({"device": f"cuda:{index}", "name": name, "memory": total, "free": free, "driver": _driver()})
    return devices, None


def _driver() -> str | None:
    """Version of the NVIDIA driver, None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.partition("\n")[0].strip() or None


def _free_memory() -> int | None:
    """Bytes of RAM that can be had without swapping; None where the system (not Linux) does not tell."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return None
    lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _weights() -> list[dict[str, str]]:
    """The frozen networks of losses and metrics where torch's own download puts them."""
    try:
        from ttrd3.pretrained import SOURCES
    except ImportError:  # a requirement is missing, which the table says already
        return []
    found = []
    for trunk, source in SOURCES.items():
        path = source.cached
        # The file's name ends in the first digits of its SHA-256: an interrupted copy is told from the real thing.
        state = "missing" if not path.is_file() else "found"
        if state == "found" and not sha256(path).startswith(path.stem.rpartition("-")[2]):
            state = "damaged"
        found.append({"trunk": trunk, "path": str(path), "state": state, "url": source.url})
    return found


def _rows(findings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    ttrd3, python, disk = findings["ttrd3"], findings["python"], findings["disk"]
    yield "ttrd3", f"{ttrd3['version']}, commit {ttrd3['commit'] or 'unknown (no git checkout)'}, {ttrd3['folder']}"
    yield "Python", f"{python['version']}, {python['executable']}"
    yield "platform", python["platform"]
    yield "", ""
    for pin in findings["requirements"]:
        wrong = "" if pin["satisfied"] else f"   <-- expected {pin['expected']}"
        yield pin["name"], (pin["found"] or "not installed") + wrong
    if not findings["requirements"]:
        yield "requirements", f"no requirements.txt in {ttrd3['folder']}: ttrd3 is not installed from a checkout"
    yield "", ""
    memory = findings["free_memory"]
    yield "CPU cores", str(findings["cpus"])
    for gpu in findings["gpus"]:
        text = f"{gpu['name']}, {gpu['free'] / GIB:.1f} of {gpu['memory'] / GIB:.1f} GiB free, driver {gpu['driver']}"
        yield gpu["device"], text
    if findings["no_gpu"]:
        yield "GPU", f"none: {findings['no_gpu']}"
    yield "free memory", "unknown on this system" if memory is None else f"{memory / GIB:.1f} GiB"
    yield "free disk", f"{disk['free'] / GIB:.1f} GiB at {disk['folder']}"
    yield "", ""
    yield (
        "optional weights",
        "of perceptual losses and metrics: downloaded at first use, or set their option `file` to a local file",
    )
    for weights in findings["weights"]:
        yield f"trunk {weights['trunk']}", f"{weights['state']} at {weights['path']}"
        if weights["state"] != "found":
            yield "", f"from {weights['url']}"
    yield "", ""
    yield "verdict", _verdict(findings)


def _verdict(findings: dict[str, Any]) -> str:
    if findings["healthy"]:
        return "healthy: every requirement is there in its pinned version"
    wrong = [pin["name"] for pin in findings["requirements"] if not pin["satisfied"]]
    if wrong:
        return f"not healthy: {', '.join(wrong)} differ. Run `{sys.executable} -m pip install -r requirements.txt`."
    return (
        f"not healthy: {findings['torch_problem'] or 'the requirements are unknown'}. Use a checkout and its train.sh."
    )
