"""Frozen ImageNet networks for the paper's perceptual term: never trained, never saved with the model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models

from ttrd3.pretrained import SOURCES, Source, fill, load_state

Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)  # of images in [0, 1]
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TrunkSource:
    """How a trunk is built and where its weights come from."""

    build: object
    layers: int  # of `features` that are kept
    source: Source


TRUNKS = {
    # features[28] is conv5_1; its ReLU is left out.
    "vgg19": TrunkSource(models.vgg19, 29, SOURCES["vgg19"]),
    "squeezenet": TrunkSource(models.squeezenet1_1, 13, SOURCES["squeezenet"]),
}


class Trunk(nn.Module):
    """Normalisation of the image by channel, then the first layers of a classification network, all frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        for layer in features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # what comes before is still needed for its gradient
        self.features = features
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> features (N, C, about H/16, W/16)."""
        return self.features((image - self.mean) / self.std)


def load_trunk(name: str, file: str | None = None) -> Trunk:
    """Build a trunk with weights from `file`, or from torchvision's download (kept in torch's cache).

    Raises:
        UserError: No file and no network, or a file that does not hold this network.
    """
    trunk = TRUNKS[name]
    features = trunk.build(weights=None).features[: trunk.layers]
    fill_features(features, trunk.source, file)
    return Trunk(features)


def fill_features(features: nn.Sequential, source: Source, file: str | None) -> None:
    """Load what a classification network's file, or torchvision's download, holds of its first layers.

    Raises:
        UserError: No file and no network, or a file that does not hold this network.
    """
    state = load_state(source, file, "loss")
    state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    fill(features, state, source, file)
