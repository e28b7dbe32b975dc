"""Everything an option file may say: one class a section, assembled from the signatures of what is registered."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ttrd3 import config
from ttrd3.data.triplets import TripletDataset
from ttrd3.diffusion.objectives import OBJECTIVES, ObjectiveName, require_residual
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.engine.precision import PrecisionName
from ttrd3.environment import ROOT
from ttrd3.errors import ConfigError
from ttrd3.losses import LOSSES
from ttrd3.losses.base import teaches_residual, turns, weight_at
from ttrd3.metrics import METRICS
from ttrd3.networks.mfab import ENCODERS
from ttrd3.networks.sttg import TRANSFERS
from ttrd3.networks.unet import NOISE_GAIN
from ttrd3.networks.variants import UNETS
from ttrd3.paths import input_path
from ttrd3.registry import Count, PositiveInt, Probability, Section, schema_of

OF_TWO_OUTPUTS = ("pred_res_noise", "pred_res_add_noise")  # objectives whose x_0 depends on the noise output too
DEFAULT_FILE = ROOT / "options" / "TTRD3.yml"
SAMPLE_FILE = ROOT / "options" / "sample.yml"  # the shipped weights on the embedded sample

Decay = Annotated[float, Field(ge=0, lt=1)]


class ModelOptions(Section):
    """The networks."""

    encoder: ENCODERS.options = Field(description="reads LR and reference")
    transfer: TRANSFERS.options = Field(description="brings texture from the reference")
    unet: UNETS.options = Field(description="denoises at every step")


class DiffusionOptions(schema_of(DiffusionProcess)):
    """The dual diffusion process (RDDM, arXiv:2308.13712)."""

    objective: ObjectiveName = Field("pred_res_noise", description="what the UNet's outputs mean")


class SamplingOptions(Section):
    """How images are restored in validation."""

    steps: PositiveInt = Field(10, description="sampling steps K, at most diffusion.timesteps")
    eta: Probability = Field(0.0, description="0 is deterministic given the start noise, 1 is ancestral")
    reference_strength: Probability = Field(1.0, description="0 ignores the reference, 1 takes it as trained")
    fidelity: Probability = Field(
        0.0,
        description="0 samples as trained (most realistic), 1 takes the residual alone (most faithful); a UNet that is "
        "told it (told_fidelity) has details for each, others give the line between the two ends",
    )
    ensemble: bool = Field(
        False, description="the mean over all eight flips and rotations: nearer to the truth in eight times the time"
    )


class DataOptions(Section):
    """Training and validation images."""

    train: schema_of(TripletDataset)
    val: schema_of(TripletDataset)


class TrainOptions(Section):
    """The optimisation."""

    steps: PositiveInt = Field(description="optimiser steps in all")
    start_from: str | None = Field(
        None,
        description="weights that a new run starts from, or options of a training that comes first; null: none",
    )
    only: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="parts of the model that learn, as [unet.noise], while all else stays as it is; null: all",
    )
    batch_size: PositiveInt = Field(2, description="images per pass, shared out among the processes")
    accumulation: PositiveInt = Field(1, description="passes per optimiser step")
    at_start: Probability = Field(
        0.0, description="share of samples at t = T-1, where sampling starts; the others have any t, equally likely"
    )
    detach_residual: bool = Field(
        False,
        description="terms of x_0 and of the posterior mean teach the noise output alone, so that the residual, which "
        "learns from its own term, stays the most faithful estimate: the faithful end of `fidelity`",
    )
    self_ensemble: Probability = Field(
        0.0,
        description="share of the residual's target that is what the averaged weights find at another orientation, of "
        "which a trained model learns more than of HR alone: 0.9 or so; 0: HR alone",
    )
    fidelity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9,
        description="largest fidelity drawn, from 0 on, all equally likely; for a UNet that is told it "
        "(model.unet.told_fidelity)",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="Adam's, at its highest")
    schedule: Literal["constant", "cosine"] = Field("constant", description="of the learning rate over `steps`")
    warmup: Count = Field(0, description="steps of linear rise of the learning rate")
    betas: Annotated[list[Decay], Field(min_length=2, max_length=2)] = Field([0.9, 0.99], description="Adam's")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(1.0, description="largest gradient norm; null: no limit")
    ema_decay: Decay = Field(0.995, description="of the averaged weights, which validation uses")
    ema_every: PositiveInt = Field(10, description="steps between two updates of the averaged weights")
    max_skipped: PositiveInt = Field(
        10, description="steps in a row without a finite gradient, each of which is skipped, that end the training"
    )
    processes: PositiveInt | None = Field(
        None,
        description="that train together on this machine; null: one for each GPU that `batch_size` can be shared with",
    )
    precision: PrecisionName = Field(
        "float32", description="of the networks in training: float32, tf32, bfloat16, or float16 with scaled gradients"
    )
    channels_last: bool = Field(False, description="memory format of the networks, the fast one in half precision")
    compile: bool = Field(False, description="let torch.compile translate the networks: minutes at first, then faster")
    gradient_checkpointing: bool = Field(
        False, description="recompute blocks in the backward pass: less memory, slower"
    )
    cache: bool = Field(True, description="decode all training tiles once, into output/.cache")
    workers: Count = Field(2, description="processes that load images, for each training process; 0: none of their own")
    log_every: PositiveInt = Field(50, description="steps between two lines of scalars")
    validate_every: PositiveInt | None = Field(None, description="steps between validations; null: at the end only")
    checkpoint_every: PositiveInt = Field(1000, description="steps between checkpoints")
    keep_checkpoints: PositiveInt = Field(2, description="newest checkpoints that are kept")
    best: str | None = Field(
        None, description="metric of `val.metrics` whose best validation is kept as best.safetensors; null: none"
    )
    patience: PositiveInt | None = Field(
        None, description="validations in a row without a better `best` that end the training early; null: no end"
    )


class DistillOptions(Section):
    """Many sampling steps of a teacher taught in few (SinSR, arXiv:2311.14760); the losses need one `distilled`."""

    teacher: str = Field(description="weights whose deterministic sampler is learned")
    teacher_steps: PositiveInt = Field(10, description="sampling steps of the teacher, a multiple of `steps`")
    steps: PositiveInt = Field(1, description="sampling steps of the student; training draws from their times")


class ValOptions(Section):
    """Validation."""

    batch_size: PositiveInt = Field(1, description="images restored at once; the result does not depend on it")
    metrics: Annotated[list[METRICS.options], Field(min_length=1)] = Field(description="what is measured")
    pictures: Count = Field(8, description="side-by-side pictures that are written")
    save_images: bool = Field(True, description="write every restored image as PNG")


class Options(Section):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = Field(description="the run folder is output/name")
    output: str = Field("runs", description="where run folders go; relative to the checkout")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(10, description="of everything random")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="auto (CUDA where there is one), cpu, cuda or cuda:N"
    )
    weights: str | None = Field(None, description="what `val` validates; null: what training left in the run folder")
    model: ModelOptions
    diffusion: DiffusionOptions
    sampling: SamplingOptions
    data: DataOptions
    losses: Annotated[list[LOSSES.options], Field(min_length=1)]
    distill: DistillOptions | None = Field(None, description="a teacher to learn from; null: none")
    train: TrainOptions
    val: ValOptions


def load_options(words: list[str], default: Path = DEFAULT_FILE) -> Options:
    """The options of a command line `[OPTIONS.yml] [section.key=value ...]`, checked each and together.

    Args:
        words: The command line.
        default: The file, where it names none.

    Raises:
        ConfigError: Anything wrong with them.
    """
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise ConfigError(
            f"command line: found {len(files)} option files ({', '.join(files)}), expected at most one. "
            "A setting is one word with = and no spaces, as train.steps=1000."
        )
    document = config.read_yaml(input_path(files[0]) if files else default)
    config.override(document, [word for word in words if "=" in word])
    options = config.validate(Options, document)
    _check_together(options, document)
    return options


def _check_together(options: Options, document: config.Document) -> None:
    if options.sampling.steps > options.diffusion.timesteps:
        raise ConfigError(
            f"{document.place(('sampling', 'steps'))}: sampling.steps: found {options.sampling.steps}, "
            f"expected at most diffusion.timesteps ({options.diffusion.timesteps})"
        )
    outputs = OBJECTIVES[options.diffusion.objective].outputs
    place = f"{document.place(('sampling', 'fidelity'))}: sampling.fidelity"
    require_residual(options.diffusion.objective, options.sampling.fidelity, place)
    _check_told_fidelity(options, document)
    for number, loss in enumerate(options.losses):
        if getattr(loss, "of", None) not in (None, *outputs):
            raise ConfigError(
                f"{document.place(('losses', number, 'of'))}: losses.{number}.of: found {loss.of!r}, but the objective "
                f"{options.diffusion.objective} predicts only: {', '.join(outputs)}. "
                "Remove this loss or choose another objective."
            )
        if getattr(loss, "by_fidelity", False) and not getattr(options.model.unet, "told_fidelity", False):
            raise ConfigError(
                f"{document.place(('losses', number, 'by_fidelity'))}: losses.{number}.by_fidelity: found true, but "
                "the network is told no fidelity. Set model.unet.told_fidelity=true, or by_fidelity to false."
            )
    if options.train.patience is not None and options.train.best is None:
        raise ConfigError(
            f"{document.place(('train', 'patience'))}: train.patience: found {options.train.patience}, but train.best "
            "is null: name the metric that validations are to improve, as train.best=psnr, or remove train.patience"
        )
    _check_distillation(options, document)
    for step in turns(loss.weight for loss in options.losses):
        if step < options.train.steps and not any(weight_at(loss.weight, step) for loss in options.losses):
            raise ConfigError(
                f"{document.place(('losses',))}: losses: all weights are 0 from step {step} on, so there is nothing to "
                "train; set one above 0"
            )
    if options.train.detach_residual and options.diffusion.objective not in OF_TWO_OUTPUTS:
        raise ConfigError(
            f"{document.place(('train', 'detach_residual'))}: train.detach_residual: found true, expected false with "
            f"the objective {options.diffusion.objective}, whose x_0 depends on one output alone. Set it to false, or "
            f"choose another objective: {' or '.join(OF_TWO_OUTPUTS)}"
        )
    if options.train.self_ensemble and not any(
        teaches_residual(loss, step)
        for loss in options.losses
        for step in turns([loss.weight])
        if step < options.train.steps
    ):
        raise ConfigError(
            f"{document.place(('train', 'self_ensemble'))}: train.self_ensemble: found {options.train.self_ensemble}, "
            "but no loss looks at the residual. Add {type: l1, of: residual} to the losses, or set it to 0."
        )


def _check_told_fidelity(options: Options, document: config.Document) -> None:
    diffusion, scale = options.diffusion, NOISE_GAIN**-2
    works = diffusion.objective == "pred_res_noise" and math.isclose(diffusion.sum_scale, scale)
    if getattr(options.model.unet, "told_fidelity", False) and not works:
        raise ConfigError(
            f"{document.place(('model', 'unet', 'told_fidelity'))}: model.unet.told_fidelity: found true with the "
            f"objective {diffusion.objective} and sum_scale {diffusion.sum_scale:g}, expected pred_res_noise and "
            f"{scale:g}: with others what the noise output begins with is not the noise of the first step, and "
            "fidelity 1 would not be the residual's image"
        )


def _check_distillation(options: Options, document: config.Document) -> None:
    distill, place = options.distill, document.place(("distill",))
    asked = any(loss.type == "distilled" and loss.weight != 0 for loss in options.losses)
    if asked != (distill is not None):
        found = "a loss `distilled` without the section `distill`" if asked else "`distill` without a loss `distilled`"
        raise ConfigError(f"{place}: distill: found {found}, expected both or neither: it compares with the teacher")
    if distill is None:
        return
    if distill.teacher_steps % distill.steps:
        raise ConfigError(
            f"{place}: distill.teacher_steps: found {distill.teacher_steps} for steps: {distill.steps}, expected a "
            "multiple, so that the teacher passes the student's times"
        )
    if distill.teacher_steps > options.diffusion.timesteps:
        raise ConfigError(
            f"{place}: distill.teacher_steps: found {distill.teacher_steps}, expected at most diffusion.timesteps "
            f"({options.diffusion.timesteps})"
        )
