"""One ONNX graph of a whole restoration at one tile size: encoding, K sampling steps, output."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto
from pydantic import ValidationError
from torch import Tensor, nn
from torch.onnx import export as export_onnx

from ttrd3.diffusion.objectives import OBJECTIVES, require_residual
from ttrd3.engine import checkpoint
from ttrd3.engine.build import build_model, build_process
from ttrd3.engine.options import Options
from ttrd3.errors import CheckpointError, ConfigError
from ttrd3.files import replacing
from ttrd3.inference.restore import sampled_image
from ttrd3.networks.fast import prepare

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # a quarter of a step of 8 bits; the same graph, summed in another order, is 1e-6 away
LARGEST = 2 * 10**9  # bytes of a file of protobuf


class Export(NamedTuple):
    """What was written: inputs and their shapes, bytes, and the largest difference to PyTorch, of values in [0, 1]."""

    inputs: dict[str, tuple[int, ...]]
    size: int
    difference: float


class Restoration(nn.Module):
    """Restores one tile with `steps` deterministic sampling steps, as `ttrd3 upscale` does.

    Images are (H, W, 3), as files hold them.
    """

    def __init__(
        self, options: Options, tensors: dict[str, Tensor], path: Path, steps: int, strength: float, fidelity: float
    ):
        super().__init__()
        model = build_model(options.model, options.diffusion)
        checkpoint.load_state(model, tensors, path)
        self.model = prepare(model)
        self.process = build_process(options.diffusion)
        self.objective = OBJECTIVES[options.diffusion.objective]
        self.steps, self.strength, self.fidelity = steps, strength, fidelity

    def forward(
        self, up: Tensor, noise: Tensor, reference: Tensor | None = None, degraded: Tensor | None = None
    ) -> Tensor:
        """Restore.

        Args:
            up: (H, W, 3) uint8, the LR image enlarged fourfold by bicubic.
            noise: (H, W, 3) float32, standard normal.
            reference: (H, W, 3) uint8.
            degraded: `reference` reduced to 1/4 and enlarged again by bicubic, (H, W, 3) uint8.

        Returns:
            (H, W, 3) float32 in [0, 1].
        """
        x_in, textures = 2 * _image(up) - 1, None
        if reference is not None:
            textures = self.model.encode(_image(up), _image(reference), _image(degraded))
            textures = [self.strength * texture for texture in textures]
        denoise = self.model.begin(x_in, textures, self.process.times(self.steps)[:-1], self.fidelity)
        start = noise.permute(2, 0, 1)[None]
        line = self.model.left_to_sampler(self.fidelity)
        x0 = sampled_image(denoise, self.process, self.objective, x_in, lambda: start, self.steps, fidelity=line)
        return (x0[0].permute(1, 2, 0) + 1) / 2


def export(
    weights: Path, onnx: Path, tile: int, steps: int | None, strength: float | None, fidelity: float | None
) -> Export:
    """Write the graph and compare what onnxruntime makes of it with PyTorch.

    Args:
        weights: File that training or the import wrote.
        onnx: File to write.
        tile: Height and width of the output in pixels.
        steps: Sampling steps; None for those of the file's options.
        strength: Of the reference; 0 for a graph without one, None for that of the file's options.
        fidelity: 0 to 1, see `Restorer`; None for that of the file's options.

    Raises:
        UserError: Weights that cannot be used, a size or number of steps that the networks cannot take, a graph that is
            too large for a file or gives something else.
    """
    stored = checkpoint.load(weights)
    try:
        options = Options.model_validate(stored.options)
    except ValidationError as error:
        raise CheckpointError(
            f"{weights}: was written by another version of ttrd3, whose options are not known here "
            f"({error.errors()[0]['loc']}: {error.errors()[0]['msg']}). Use that version."
        ) from None
    steps = steps or options.sampling.steps
    if steps > options.diffusion.timesteps:
        raise ConfigError(
            f"--steps: found {steps}, expected at most {options.diffusion.timesteps}, the diffusion steps of {weights}"
        )
    if options.sampling.eta and steps > 1:
        logger.warning(
            "%s: its options sample with eta %g; the graph takes deterministic steps, eta 0", weights,
            options.sampling.eta,
        )  # fmt: skip
    if options.sampling.ensemble:
        logger.warning("%s: its options sample with an ensemble; the graph restores one orientation", weights)
    strength = options.sampling.reference_strength if strength is None else strength
    fidelity = options.sampling.fidelity if fidelity is None else fidelity
    require_residual(options.diffusion.objective, fidelity, "--fidelity", f" of {weights}")
    restoration = Restoration(options, stored.weights(), weights, steps, strength, fidelity).eval()
    multiple = restoration.model.size_multiple
    if tile % multiple:
        raise ConfigError(f"--tile: found {tile}, expected a multiple of {multiple}, because the networks halve sizes")
    inputs = _example(tile, with_reference=strength > 0)
    with torch.no_grad():
        expected = restoration(**inputs)
        logger.info("translating %d steps for tiles of %d x %d; this takes minutes", steps, tile, tile)
        program = export_onnx(
            restoration, kwargs=inputs, dynamo=True, optimize=False, verbose=False, output_names=["sr"]
        )
    model = _without_traces(program.model_proto)
    if len(model) > LARGEST:
        raise ConfigError(
            f"{onnx}: would take {len(model) / 1e9:.1f} GB, an ONNX file at most 2. Export a smaller model."
        )
    difference = _difference(model, inputs, expected)
    if not difference < TOLERANCE:
        raise ConfigError(
            f"{onnx}: not written, because onnxruntime gives another result than PyTorch: they differ by "
            f"{difference:.2g}, expected less than {TOLERANCE}. Please report it with the options of the weights."
        )
    with replacing(onnx) as temporary:
        temporary.write_bytes(model)
    return Export({name: tuple(value.shape) for name, value in inputs.items()}, len(model), difference)


def _example(tile: int, with_reference: bool) -> dict[str, Tensor]:
    """Inputs that the graph is traced and checked with."""
    generator = torch.Generator().manual_seed(0)
    inputs = {"up": _picture(tile, generator), "noise": torch.randn(tile, tile, 3, generator=generator)}
    if with_reference:
        inputs |= {"reference": _picture(tile, generator), "degraded": _picture(tile, generator)}
    return inputs


def _picture(tile: int, generator: torch.Generator) -> Tensor:
    return torch.randint(256, (tile, tile, 3), generator=generator, dtype=torch.uint8)


def _image(pixels: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]."""
    return pixels.permute(2, 0, 1)[None].float() / 255


def _without_traces(model: ModelProto) -> bytes:
    """The file's bytes without what the exporter notes about this program's source, a third of a small graph."""
    for part in (model.graph, *model.functions):
        for node in part.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    return model.SerializeToString()


def _difference(model: bytes, inputs: dict[str, Tensor], expected: Tensor) -> float:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its warnings are about constants that it will not fold
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["sr"], {name: value.numpy() for name, value in inputs.items()})
    return float(np.abs(found - expected.numpy()).max())
