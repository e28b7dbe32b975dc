"""Opening a checkpoint of the authors' (`torch.save`): nothing in it is run, and every other file is told apart."""

import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from ttrd3.errors import CheckpointError

EXPECTED = "Expected a released checkpoint of TTRD3 (model-300.pt)"
NO_CHECKPOINT = "is no checkpoint, or a damaged one"
COPY_AGAIN = "Download or copy it again."
ZIP, PICKLE = b"PK\x03\x04", b"\x80"


def read_released(path: Path) -> Any:
    """The content of a file of `torch.save`: tensors on the CPU, mapped from the file where its format allows.

    Raises:
        CheckpointError: Missing, a folder, truncated, altered, of another kind, or with anything in it but tensors and
            plain values; what such a file asks to call is named and never called.
    """
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {there}. {EXPECTED}; check the path.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        is_zip = start.startswith(ZIP)
        if is_zip:
            _require_whole(path)
        elif not start.startswith(PICKLE):
            raise CheckpointError(f"{path}: {_foreign(path, start)}. {EXPECTED}; give the file that they published.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on formats that the errors below explain
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}). Allow it, or copy it.") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {_refusal(path, str(error), is_zip)}") from None
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # what is damaged may ask for anything: no list of exceptions would be whole
        if "TorchScript" in str(error):
            raise CheckpointError(f"{path}: is a TorchScript program, no checkpoint. {EXPECTED}.") from None
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: is no checkpoint, or a damaged one ({cause}). {EXPECTED}. {COPY_AGAIN}"
        ) from None


def _require_whole(path: Path) -> None:
    """Refuse a zip archive that is cut short or whose content no longer has its checksum, which torch does not ask."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({error}). {COPY_AGAIN}") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: is damaged: {damaged} in it has another checksum. {COPY_AGAIN}")


def _foreign(path: Path, start: bytes) -> str:
    """What a file is that `torch.save` cannot have written."""
    if not start:
        return "is empty"
    if len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return "is a safetensors file; weights in this format that ttrd3 wrote need no import (`weights=FILE`)"
    return "was not written by torch.save"


def _refusal(path: Path, error: str, is_zip: bool) -> str:
    """Why the reader of tensors and plain values stopped."""
    names = re.findall(r"GLOBAL ([\w.]+)", error) or ([] if is_zip else _called(path))
    if names:
        return (
            f"asks to call {', '.join(dict.fromkeys(names))} while it is read, as no weights need to; such a file can "
            "run any program. Nothing of it was run. Use the file that the authors published, from where they did."
        )
    return f"{NO_CHECKPOINT}. {EXPECTED}. {COPY_AGAIN}"


def _called(path: Path) -> list[str]:
    """What a bare pickle names for calling, read without running it."""
    names, words = [], []
    try:
        with path.open("rb") as file:
            for opcode, value, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(value.replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(words[-2:]))
                elif isinstance(value, str):
                    words.append(value)
    except ValueError:  # the rest is no pickle: what came before is what counts
        pass
    return names
