"""From options to a validation: what `val` runs, and what training runs in between."""

import json
import logging
import zlib
from pathlib import Path

import torch

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.engine import behaviour, build, checkpoint
from ttrd3.engine.distributed import ALONE, World
from ttrd3.engine.options import Options
from ttrd3.engine.run_folder import RunFolder, step_label
from ttrd3.engine.validator import Validation, Validator
from ttrd3.errors import CheckpointError
from ttrd3.inference.restore import Restorer
from ttrd3.networks.fast import prepare
from ttrd3.networks.model import TTRD3
from ttrd3.paths import input_path

logger = logging.getLogger(__name__)


def make_validator(options: Options, device: torch.device, world: World = ALONE) -> Validator:
    """The validator of `data.val` and `val`, which the processes of `world` share."""
    val = options.val
    dataset = build.build_dataset(options.data.val, options.seed, device)
    metrics = build.build_metrics(options, device)
    return Validator(dataset, metrics, val.batch_size, val.pictures, val.save_images, options.seed, device, world)


def make_restorer(options: Options, model: TTRD3, process: DiffusionProcess) -> Restorer:
    """A restorer that samples with the weights of `model` as they are now, as `sampling` says."""
    objective = OBJECTIVES[options.diffusion.objective]
    sampling = options.sampling
    fast = prepare(model)
    return Restorer(
        fast, process, objective, sampling.steps, sampling.reference_strength, sampling.eta, options.seed,
        fidelity=sampling.fidelity, ensemble=sampling.ensemble,
    )  # fmt: skip


def protocol(options: Options, weights: str, step: int) -> dict:
    """What a table must say besides its metrics."""
    data = options.data.val.model_dump()
    return {
        "data": data.pop("root"),
        **{name: value for name, value in data.items() if value is not None},
        "sampling_steps": options.sampling.steps,
        "eta": options.sampling.eta,
        "reference_strength": options.sampling.reference_strength,
        "fidelity": options.sampling.fidelity,
        "ensemble": options.sampling.ensemble,
        "seed": options.seed,
        "weights": weights,
        "training_steps": step,
    }


def validate_weights(options: Options) -> tuple[Validation, Path]:
    """Validate `options.weights`, or else the weights that training left in the run folder.

    Returns:
        What was found, and the folder that holds the tables and pictures.

    Raises:
        UserError: Weights that are missing or do not fit, data or a device that cannot be used.
    """
    device = build.build_device(options.device)
    validator = make_validator(options, device)
    folder = RunFolder(options)
    path = input_path(options.weights) if options.weights is not None else folder.weights
    if options.weights is None and not path.is_file():
        raise CheckpointError(
            f"{path}: there are no weights yet. Train them (`sh train.sh` with the same options), "
            "or give others with weights=FILE."
        )
    model = build.build_model(options.model, options.diffusion)
    stored = checkpoint.load_weights(model, path, options)
    model.to(device).eval()
    restorer = make_restorer(options, model, build.build_process(options.diffusion).to(device))
    changes = checkpoint.changed_behaviour(stored, options)
    described = protocol(options, path.name, stored.step) | behaviour.described(changes)
    logger.info("validating %s (step %d) on %d images, on %s", path, stored.step, len(validator.dataset), device)
    where = folder.validation(_label(options, path, stored.step, changes))
    return validator.run(restorer, where, described), where


def _label(options: Options, weights: Path, step: int, changes: list[behaviour.Change]) -> str:
    """A folder name that tells validations of one run apart: weights, data, reference, sampling, seed, behaviour.

    Training itself uses the step alone, so that `val` never writes over what training found.
    """
    data, sampling, train = options.data.val, options.sampling, options.data.train
    own = options.weights is None
    retrieves = data.reference == "retrieved" or data.retrieved > 0
    parts = [step_label(step)] if own else [f"{weights.parent.name}-{weights.stem}", step_label(step)]
    parts += [Path(data.root).name] if data.root != train.root else []
    parts += [data.split, data.reference]
    parts += [Path(data.index).stem] if retrieves and data.index not in (None, train.index) else []
    parts += [f"top{data.top}"] if retrieves and data.top > 1 else []
    parts += [f"from_{data.reference_split}"] if data.reference_split != "auto" else []
    parts += [f"{sampling.steps}steps", f"seed{options.seed}"]
    parts += [f"eta{sampling.eta:g}"] if sampling.eta else []
    parts += [f"strength{sampling.reference_strength:g}"] if sampling.reference_strength != 1 else []
    parts += [f"fidelity{sampling.fidelity:g}"] if sampling.fidelity else []
    parts += ["ensemble"] if sampling.ensemble else []
    parts += [f"{data.references}references"] if data.references > 1 else []
    parts += [f"retrieved{data.retrieved:g}"] if data.retrieved else []
    parts += [f"{data.match_colours}"] if data.match_colours != "none" else []
    parts += [f"{name}{value}" for name, value in (("crop", data.crop), ("limit", data.limit)) if value is not None]
    usual = {"root": train.root, "index": train.index, "augmentation": "none", "reference_dropout": 0, "warped": 0}
    other = {name: getattr(data, name) for name in usual if name != "index" or retrieves}
    if any(value != usual[name] for name, value in other.items()):  # of which the words above say a part
        parts += [f"{zlib.crc32(json.dumps(other).encode()):08x}"]
    return "-".join([*parts, *behaviour.label(changes)])
