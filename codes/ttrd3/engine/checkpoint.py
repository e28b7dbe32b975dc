"""Weights and training states as safetensors with their options inside; never pickled, never half-written.

A weights file holds the averaged (EMA) model under its own names. A checkpoint holds `model.*`, `ema.*` and Adam's
state `adam.exp_avg.*`, `adam.exp_avg_sq.*`, `adam.step.*`, so that training goes on exactly where it stopped. Its
header has a checksum of all tensors, which tells when a disk or a copy has altered one.
"""

import json
import logging
import os
import zlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ttrd3 import __version__, config
from ttrd3.engine.behaviour import BEHAVIOUR, Change, fit_selection
from ttrd3.engine.ema import EMA
from ttrd3.engine.options import Options
from ttrd3.errors import CheckpointError
from ttrd3.files import replacing
from ttrd3.networks.model import TTRD3

logger = logging.getLogger(__name__)

FORMAT = 1
WEIGHTS, CHECKPOINT = "ttrd3-weights", "ttrd3-checkpoint"
SECTIONS = ("model", "diffusion")  # of the options: what weights depend on
FREE = frozenset({"model.transfer.matching_memory"})  # inside these sections, but without influence on the result


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


def save_weights(path: Path, ema: EMA, options: Options, step: int) -> None:
    """Write the averaged model."""
    _save(path, WEIGHTS, ema.model.state_dict(), options, step, ema.updates)


def save_state(path: Path, state: dict[str, Tensor], options: Options, step: int) -> None:
    """Write parameters that were trained elsewhere as weights."""
    _save(path, WEIGHTS, state, options, step, updates=0)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    ema: EMA,
    adam: torch.optim.Adam,
    options: Options,
    step: int,
    counters: Mapping[str, Any],
) -> None:
    """Write all that is needed to go on from `step` optimiser steps done; `counters` are JSON values."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment, value in adam.state.get(parameter, {}).items():
            tensors[f"adam.{moment}.{name}"] = value
    _save(path, CHECKPOINT, tensors, options, step, ema.updates, counters)


def restore_checkpoint(stored: Stored, model: nn.Module, ema: EMA, adam: torch.optim.Adam) -> None:
    """Put a checkpoint's content into `model`, `ema` and `adam` in place."""
    load_state(model, stored.part("model"), stored.path)
    load_state(ema.model, stored.part("ema"), stored.path)
    ema.updates = stored.updates
    moments = {moment: stored.part(f"adam.{moment}") for moment in ("step", "exp_avg", "exp_avg_sq")}
    for name, parameter in model.named_parameters():
        there = [moment for moment, values in moments.items() if name in values]
        if there and len(there) < len(moments):
            raise CheckpointError(f"{stored.path}: the optimiser's state of {name} is not whole; the file is damaged")
        if there:  # none where the losses leave an output, and so its parameters, without a gradient
            state = {moment: values[name] for moment, values in moments.items()}
            # Moments need the parameter's memory format: the fused Adam runs through memory, not through indices.
            adam.state[parameter] = {
                k: v.to(parameter.device) if k == "step" else torch.empty_like(parameter).copy_(v)
                for k, v in state.items()
            }


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
        if "checksum" in header and int(header["checksum"]) != _checksum(tensors):
            raise DamagedError(f"{path}: its content was altered after it was written (checksum). Copy the file again.")
        options = dict(json.loads(header["options"]))
        counters = dict(json.loads(header.get("counters", "{}")))
        return Stored(path, header["kind"], tensors, options, int(header["step"]), int(header["updates"]), counters)
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedError(
            f"{path}: its header was altered or is damaged ({error!r}). Expected what ttrd3 wrote; copy the file again."
        ) from None


def require_same_architecture(stored: Stored, options: Options, free: Set[str] = FREE) -> None:
    """Refuse weights of other networks or another process than the options describe.

    Args:
        stored: The file.
        options: The options that it is to serve.
        free: Options that may differ.

    Raises:
        CheckpointError: Lists each option that differs, with both values.
    """
    differences = [found for found in changed_options(stored, options, SECTIONS) if found[0] not in free]
    if differences:
        lines = (f"  {name}: {theirs!r} in the file, {ours!r} in the options" for name, theirs, ours in differences)
        listed = "\n".join(lines)
        beside = stored.path.with_suffix(".yml")  # as `ttrd3 import-released` leaves it
        own = f" Its own options are in {beside}." if beside.is_file() else ""
        raise CheckpointError(
            f"{stored.path}: belongs to another architecture than the options describe:\n{listed}\n"
            f"Set these options to the file's values, choose other weights, or another name for a new run.{own}"
        )


def changed_options(stored: Stored, options: Options, sections: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """(name, value in the file, value in the options) of each option that differs, in `sections` or everywhere.

    An option that is younger than the file has its default there.
    """
    now = options.model_dump(mode="json")
    try:
        then = Options.model_validate(stored.options).model_dump(mode="json")
    except ValidationError:  # an option that no longer exists: it shows as a difference
        then = stored.options
    if not sections:
        sections = tuple(now)
    theirs, ours = (dict(config.flatten({s: data.get(s) for s in sections})) for data in (then, now))
    names = list(dict.fromkeys([*theirs, *ours]))
    return [(n, theirs.get(n), ours.get(n)) for n in names if theirs.get(n) != ours.get(n)]


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


def changed_behaviour(stored: Stored, options: Options) -> list[Change]:
    """(name, value in the file, value in the options) of each option of `BEHAVIOUR` that differs."""
    return [found for found in changed_options(stored, options, SECTIONS) if found[0] in BEHAVIOUR]


def load_weights(model: TTRD3, path: Path, options: Options) -> Stored:
    """Put the averaged weights of a file into `model` after checking that they belong to it.

    Options of `BEHAVIOUR` may differ from the file's; a warning tells which do.
    """
    stored = load(path)
    require_same_architecture(stored, options, FREE | BEHAVIOUR)
    for name, theirs, ours in changed_behaviour(stored, options):
        logger.warning("%s: made with %s=%s, used with %s", path, name, theirs, ours)
    load_state(model, fit_selection(stored.weights(), model, path), path)
    return stored


def _save(
    path: Path,
    kind: str,
    tensors: dict[str, Tensor],
    options: Options,
    step: int,
    updates: int,
    counters: Mapping[str, Any] | None = None,
) -> None:
    # safetensors refuses tensors that are not contiguous.
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {
        "kind": kind,
        "format": str(FORMAT),
        "ttrd3": __version__,
        "options": options.model_dump_json(),
        "step": str(step),
        "updates": str(updates),
        "counters": json.dumps(dict(counters or {})),
        "checksum": str(_checksum(whole)),
    }
    with replacing(path) as temporary:
        try:
            save_file(whole, temporary, header)
        except SafetensorError as error:  # its word for a full disk
            raise OSError(str(error)) from error
        temporary.chmod(0o666 & ~_umask())  # safetensors makes its files private


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of all names and values in the order of the names."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), zlib.crc32(name.encode(), value))
    return value


def _umask() -> int:
    """The permissions that new files are denied; the system tells it only while it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
