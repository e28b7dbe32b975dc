"""Descriptors by the trained MFAB encoder, for `ttrd3 index --weights` and whoever searches such an index."""

from pathlib import Path

import numpy as np
import torch

from ttrd3.data.descriptors import Descriptor, StatisticsDescriptor
from ttrd3.data.index import read_header
from ttrd3.errors import CheckpointError, DataError
from ttrd3.files import sha256
from ttrd3.inference.weights import load, load_state
from ttrd3.networks.mfab import ENCODERS

_PART = "encoder."


class EncoderDescriptor:
    """Mean and standard deviation of every channel of the encoder's features at each of its scales."""

    standardized = True  # the channels of a network have scales of their own
    in_workers = False  # torch uses all cores by itself

    def __init__(self, weights: Path, device: torch.device):
        """Read the encoder of a weights file or a checkpoint.

        Raises:
            CheckpointError: Missing, damaged, or not written by ttrd3.
        """
        stored = load(weights)
        self.encoder = ENCODERS.build(stored.options["model"]["encoder"], f"{weights}: model.encoder")
        state = {name[len(_PART) :]: v for name, v in stored.weights().items() if name.startswith(_PART)}
        load_state(self.encoder, state, weights)
        self.encoder.to(device).eval()
        self.device = device
        self.kind = f"mfab-1 {sha256(weights)}"

    @torch.inference_mode()
    def __call__(self, up: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, 3), H and W multiples of 4 -> float32 (N, 2 C), C the sum of its widths."""
        images = torch.tensor(up, device=self.device).permute(0, 3, 1, 2).float() / 255
        # An image at a time: its descriptor must not depend on the others of a batch, not even in the last bit.
        return np.stack([self._one(image[None]) for image in images])

    def _one(self, image: torch.Tensor) -> np.ndarray:
        levels = self.encoder(image)
        parts = [part for level in levels for part in (level.mean((2, 3)), level.std((2, 3), correction=0))]
        return torch.cat(parts, dim=1)[0].cpu().numpy()


def make_descriptor(weights: Path | None, device: torch.device) -> Descriptor:
    """The encoder's descriptor with `weights`, else the one that needs none."""
    return StatisticsDescriptor() if weights is None else EncoderDescriptor(weights, device)


def descriptor_of_index(path: Path, device: torch.device) -> Descriptor:
    """The descriptor that an index was made with.

    Raises:
        DataError: No usable index, or its weights are gone or have become others.
    """
    header = read_header(path)
    if header.weights is None:
        return StatisticsDescriptor()
    again = f"Bring them back, or run `ttrd3 index --library {header.root} --out {path} --weights FILE` again."
    try:
        descriptor = EncoderDescriptor(Path(header.weights), device)
    except CheckpointError as error:
        raise DataError(f"{path}: was made with weights that cannot be used now: {error} {again}") from None
    if descriptor.kind != header.kind:
        raise DataError(f"{path}: was made with {header.weights}, which holds other weights now. {again}")
    return descriptor
