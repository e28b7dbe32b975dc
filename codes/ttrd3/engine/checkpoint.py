"""Weights and training states as safetensors with their options inside; never pickled, never half-written.

The files are those of inference/weights.py. A checkpoint holds `model.*`, `ema.*` and Adam's state `adam.exp_avg.*`,
`adam.exp_avg_sq.*`, `adam.step.*`, and `critic.*` where a loss learns too, so that training goes on exactly where it
stopped.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ttrd3 import __version__, config
from ttrd3.engine.behaviour import BEHAVIOUR, Change, fit_selection
from ttrd3.engine.ema import EMA
from ttrd3.engine.options import Options
from ttrd3.errors import CheckpointError
from ttrd3.files import replacing
from ttrd3.inference.weights import CHECKPOINT, FORMAT, WEIGHTS, Stored, checksum, load, load_state
from ttrd3.losses.base import Critic
from ttrd3.networks.model import TTRD3

logger = logging.getLogger(__name__)

SECTIONS = ("model", "diffusion")  # of the options: what weights depend on
FREE = frozenset({"model.transfer.matching_memory"})  # inside these sections, but without influence on the result


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
    critics: Sequence[Critic] = (),
) -> None:
    """Write all that is needed to go on from `step` optimiser steps done; `counters` are JSON values."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.model.state_dict().items()}
    tensors |= _moments("adam", model, adam)
    for loss in critics:
        at = f"critic.{loss.name}"
        tensors |= {f"{at}.model.{name}": value for name, value in loss.critic.state_dict().items()}
        tensors |= _moments(f"{at}.adam", loss.critic, loss.adam)
    _save(path, CHECKPOINT, tensors, options, step, ema.updates, counters)


def restore_checkpoint(
    stored: Stored, model: nn.Module, ema: EMA, adam: torch.optim.Adam, critics: Sequence[Critic] = ()
) -> None:
    """Put a checkpoint's content into `model`, `ema`, `adam` and `critics` in place.

    Critics that the file does not have, because their term was added or given another width since, begin anew.
    """
    load_state(model, stored.part("model"), stored.path)
    load_state(ema.model, stored.part("ema"), stored.path)
    ema.updates = stored.updates
    _restore_moments(stored, "adam", model, adam)
    for loss in critics:
        at = f"critic.{loss.name}"
        state = stored.part(f"{at}.model")
        if _shapes(state) == _shapes(loss.critic.state_dict()):
            load_state(loss.critic, state, stored.path)
            _restore_moments(stored, f"{at}.adam", loss.critic, loss.adam)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _moments(prefix: str, model: nn.Module, adam: torch.optim.Adam) -> dict[str, Tensor]:
    return {
        f"{prefix}.{moment}.{name}": value
        for name, parameter in model.named_parameters()
        for moment, value in adam.state.get(parameter, {}).items()
    }


def _restore_moments(stored: Stored, prefix: str, model: nn.Module, adam: torch.optim.Adam) -> None:
    moments = {moment: stored.part(f"{prefix}.{moment}") for moment in ("step", "exp_avg", "exp_avg_sq")}
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
    return differences(then, now, sections or tuple(now))


def differences(then: Mapping[str, Any], now: Mapping[str, Any], sections: tuple[str, ...]) -> list[Change]:
    """(name, value in `then`, value in `now`) of each option of `sections` that differs between two dumps."""
    theirs, ours = (dict(config.flatten({s: data.get(s) for s in sections})) for data in (then, now))
    names = list(dict.fromkeys([*theirs, *ours]))
    return [(n, theirs.get(n), ours.get(n)) for n in names if theirs.get(n) != ours.get(n)]


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
        "checksum": str(checksum(whole)),
    }
    with replacing(path) as temporary:
        try:
            save_file(whole, temporary, header)
        except SafetensorError as error:  # its word for a full disk
            raise OSError(str(error)) from error
        temporary.chmod(0o666 & ~_umask())  # safetensors makes its files private


def _umask() -> int:
    """The permissions that new files are denied; the system tells it only while it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
