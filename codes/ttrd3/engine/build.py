"""Options -> networks, process, losses, data, metrics, device."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ttrd3.data.triplets import TripletDataset
from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.engine.acceleration import keep_freed_memory
from ttrd3.engine.distributed import ALONE, World
from ttrd3.engine.options import DiffusionOptions, ModelOptions, Options
from ttrd3.errors import ConfigError, DeviceError
from ttrd3.inference.describe import descriptor_of_index
from ttrd3.inference.device import find_device, require_device
from ttrd3.inference.precision import exact_float32
from ttrd3.losses import LOSSES
from ttrd3.losses.base import Loss
from ttrd3.metrics.base import Described
from ttrd3.metrics.building import build_metric
from ttrd3.networks.model import TTRD3
from ttrd3.paths import input_path
from ttrd3.registry import Section, construct


def build_device(name: str, world: World = ALONE) -> torch.device:
    """The device of an option `device`, of several CUDA devices that of this process; sets up PyTorch for it.

    Raises:
        DeviceError: No device of this name, CUDA is asked for and is not there, or one device for several processes.
    """
    device = find_device(name)
    if world.size > 1 and device.type == "cuda":
        if device.index is not None:
            raise DeviceError(
                f"device: found {name} for {world.size} processes, each of which needs a device of its own. "
                "Set device=cuda, and choose devices by CUDA_VISIBLE_DEVICES."
            )
        device = torch.device("cuda", world.local_rank)
    exact_float32()
    if device.type == "cpu":
        keep_freed_memory()
    require_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # pinned memory and library defaults follow it
    return device


def build_model(model: ModelOptions, diffusion: DiffusionOptions) -> TTRD3:
    """The networks, freshly initialised."""
    outputs = len(OBJECTIVES[diffusion.objective].outputs)
    return TTRD3.from_options(model.encoder, model.transfer, model.unet, outputs)


def freeze_all_but(model: nn.Module, parts: Sequence[str]) -> None:
    """Let only the parameters of the named parts of `model` (modules or parameters) learn.

    Raises:
        ConfigError: A part without any parameters.
    """
    model.requires_grad_(False)
    for part in parts:
        found = [p for name, p in model.named_parameters() if name == part or name.startswith(f"{part}.")]
        if not found:
            known = ", ".join(name for name, _ in model.named_modules() if name.count(".") == 1 and name[-1].isalpha())
            raise ConfigError(f"train.only: found {part}, which has no parameters; parts of this model are: {known}")
        for parameter in found:
            parameter.requires_grad_(True)


def build_process(diffusion: DiffusionOptions) -> DiffusionProcess:
    """The diffusion process."""
    return DiffusionProcess(**diffusion.model_dump(exclude={"objective"}))


def build_losses(options: Options, device: torch.device) -> list[Loss]:
    """Losses with a weight above 0, in the order of the file."""
    losses = []
    for number, section in enumerate(options.losses):
        if section.weight != 0:
            takes_device = "device" in inspect.signature(LOSSES[section.type]).parameters
            runtime: dict[str, Any] = {"device": device} if takes_device else {}
            loss = LOSSES.build(section, f"losses.{number}", **runtime)
            if loss.name in (other.name for other in losses):
                raise ConfigError(
                    f"losses.{number}: a second loss called {loss.name}: the two could not be told apart in the log. "
                    "Keep one, with the sum of the weights."
                )
            losses.append(loss)
    return losses


def build_metrics(options: Options, device: torch.device) -> list[Described]:
    """Metrics in the order of the file, those that lack their weights marked so."""
    sections = enumerate(options.val.metrics)
    return [build_metric(section, f"val.metrics.{number}", device) for number, section in sections]


def build_dataset(section: Section, seed: int, device: torch.device | None = None) -> TripletDataset:
    """A data set of `data.train` or `data.val`; its root and index may be relative to the checkout.

    References are retrieved with the descriptor that the index was made with, computed on `device` (CPU by default).
    """
    found = section.model_copy(update={"root": str(input_path(section.root))})
    descriptor = None
    if (section.reference == "retrieved" or section.retrieved) and section.index is not None:
        path = input_path(section.index)
        found.index = str(path)
        descriptor = descriptor_of_index(path, device or torch.device("cpu"))
    return construct(TripletDataset, found, seed=seed, descriptor=descriptor)
