"""Weights of the right shapes that nobody trained, in the files that metrics read."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import models


def save_features(path: Path, build) -> Path:
    """A torchvision file with the layers of `features` alone, which is all that metrics take of it."""
    torch.manual_seed(3)
    with torch.device("meta"):  # the classifiers, most of the numbers, are never made
        shapes = build(weights=None).features.state_dict()
    state = {}
    for key, value in shapes.items():
        fan = value[0].numel() if value.dim() > 1 else 1
        state[f"features.{key}"] = (
            torch.randn(value.shape) * (2 / fan) ** 0.5 if value.dim() > 1 else torch.zeros(value.shape)
        )
    torch.save(state, path)
    return path


def vgg16_features(path: Path) -> nn.Sequential:
    """VGG16's `features` with the weights of such a file."""
    with torch.device("meta"):
        features = models.vgg16(weights=None).features
    state = torch.load(path, weights_only=True)
    features.load_state_dict({key.removeprefix("features."): value for key, value in state.items()}, assign=True)
    return features


def save_inception(path: Path) -> Path:
    """A file of torch-fidelity's Inception network."""

    class Blank(FeatureExtractorInceptionV3):
        """The package's constructor insists on a file: it gets an empty one, and keeps its random weights."""

        def load_state_dict(self, state_dict):
            assert state_dict == {}

    torch.manual_seed(3)
    torch.save({}, path)
    network = Blank("blank", ["2048"], feature_extractor_weights_path=path)
    for weight in network.parameters():
        if weight.dim() == 4:
            nn.init.kaiming_normal_(weight)
    torch.save(network.state_dict(), path)
    return path


def pair(size=(40, 36), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """(SR, HR) that differ, uint8."""
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.clip(hr + rng.normal(0, 30, hr.shape), 0, 255).astype(np.uint8), hr


def unit_tensor(image: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.tensor(image).permute(2, 0, 1)[None] / 255
