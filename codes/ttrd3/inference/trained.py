"""A weights file -> the networks and the process that it was trained for; the file's own options say which."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ttrd3.diffusion.objectives import OBJECTIVES, Objective
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.errors import CheckpointError, ConfigError
from ttrd3.inference.weights import Stored, checksum, load, load_state
from ttrd3.networks.model import TTRD3
from ttrd3.registry import schema_of


@dataclass(frozen=True)
class Trained:
    """What a weights file holds, ready to use.

    Attributes:
        steps: Sampling steps K that the file's options give.
        strength: Of the reference, as the file's options give it.
        eta: Of sampling, likewise.
        fidelity: Likewise, see `Restorer`.
        ensemble: Likewise.
        fingerprint: Tells these parameters, networks and process from others.
    """

    path: Path
    model: TTRD3
    process: DiffusionProcess
    objective: Objective
    objective_name: str
    steps: int
    strength: float
    eta: float
    fidelity: float
    ensemble: bool
    fingerprint: str


def read_trained(path: Path) -> Trained:
    """Build the networks that a weights file (or a checkpoint) describes and fill in its averaged weights.

    Raises:
        CheckpointError: Missing, damaged, foreign, or with options that this version does not know.
    """
    stored = load(path)
    state = stored.weights()
    try:
        model, diffusion = stored.options["model"], dict(stored.options["diffusion"])
        name = diffusion.pop("objective", "pred_res_noise")
        objective = OBJECTIVES[name]
        process = DiffusionProcess(**schema_of(DiffusionProcess).model_validate(diffusion).model_dump())
        network = TTRD3.from_options(model["encoder"], model["transfer"], model["unet"], len(objective.outputs))
        sampling: dict[str, Any] = stored.options.get("sampling", {})
        steps = int(sampling.get("steps", 10))
        strength = float(sampling.get("reference_strength", 1.0))
        eta, fidelity = (float(sampling.get(key, 0.0)) for key in ("eta", "fidelity"))
        ensemble = bool(sampling.get("ensemble", False))
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path}: its options are not those of this version of ttrd3 ({reason}). "
            "Use the version that wrote it, or copy the file again if it was altered."
        ) from None
    load_state(network, state, path)
    network.requires_grad_(False).eval()
    steps = min(steps, process.timesteps)
    return Trained(
        path, network, process, objective, name, steps, strength, eta, fidelity, ensemble, _fingerprint(stored)
    )


def _fingerprint(stored: Stored) -> str:
    """Of the parameters and of the options that say what is computed with them."""
    meaning = {key: stored.options[key] for key in ("model", "diffusion")}
    return f"{zlib.crc32(json.dumps(meaning, sort_keys=True).encode(), checksum(stored.weights())):08x}"
