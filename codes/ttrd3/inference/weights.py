"""Weights and training states as safetensors with their options inside: what a file holds, and how it is read.

A weights file holds the averaged (EMA) model under its own names. A checkpoint holds `model.*`, `ema.*` and Adam's
state `adam.*`. The header has the options, and a checksum of all tensors, which tells when a disk or a copy has
altered one. Nothing is ever unpickled.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ttrd3 import __version__
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError

SHIPPED = ROOT / "weights" / "ttrd3-s.safetensors"  # TTRD3-S, which comes with the code (weights/README.md)
FORMAT = 1
WEIGHTS, CHECKPOINT = "ttrd3-weights", "ttrd3-checkpoint"


class DamagedError(CheckpointError):
    """A file that is not whole, or was altered after it was written."""


@dataclass(frozen=True)
class Stored:
    """Content of a file: tensors by name, the options they belong to, the training step.

    Attributes:
        updates: Of the averaged weights.
        counters: Whatever else a checkpoint counts and scales, by name.
    """

    path: Path
    kind: str
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    step: int
    updates: int
    counters: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors under `name.`, without that prefix."""
        return {key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(name + ".")}

    def weights(self) -> dict[str, Tensor]:
        """The averaged model, whichever kind of file this is."""
        return self.tensors if self.kind == WEIGHTS else self.part("ema")


def load(path: Path) -> Stored:
    """Read a weights file or a checkpoint.

    Raises:
        CheckpointError: Missing, or not written by ttrd3.
        DamagedError: Truncated or altered.
    """
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {there}. Expected weights that training wrote (.safetensors); check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise DamagedError(
            f"{path}: is no safetensors file, or a damaged one ({error}). "
            "Expected weights that training wrote; if it was copied, copy it again."
        ) from None
    if header.get("kind") not in (WEIGHTS, CHECKPOINT):
        raise CheckpointError(
            f"{path}: is a safetensors file of another program (no TTRD3 header). Expected weights written by ttrd3."
        )
    try:
        found = int(header["format"])
        if found > FORMAT:
            raise CheckpointError(
                f"{path}: has format {found}, written by ttrd3 {header.get('ttrd3')}; this is ttrd3 "
                f"{__version__}, which knows formats up to {FORMAT}. Update ttrd3."
            )
        if "checksum" in header and int(header["checksum"]) != checksum(tensors):
            raise DamagedError(f"{path}: its content was altered after it was written (checksum). Copy the file again.")
        options = dict(json.loads(header["options"]))
        counters = dict(json.loads(header.get("counters", "{}")))
        return Stored(path, header["kind"], tensors, options, int(header["step"]), int(header["updates"]), counters)
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedError(
            f"{path}: its header was altered or is damaged ({error!r}). Expected what ttrd3 wrote; copy the file again."
        ) from None


def load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """`load_state_dict` whose failure is a message.

    Raises:
        CheckpointError: Names parameters that are missing, unknown, of another shape or not finite.
    """
    damaged = [name for name, value in state.items() if not value.isfinite().all()]
    if damaged:
        raise CheckpointError(
            f"{path}: {len(damaged)} of {len(state)} tensors hold values that are no finite numbers, as {damaged[0]}. "
            "The file was altered or is damaged; copy it again."
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = " ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(
            f"{path}: does not fit the networks of the options: {lines} The file was altered; copy it again."
        ) from None


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of all names and values in the order of the names."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), zlib.crc32(name.encode(), value))
    return value
