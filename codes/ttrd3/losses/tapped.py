"""Frozen networks that say what they see at several depths: what features are compared in, and what critics look at."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models

from ttrd3.hardware import bfloat16_pays
from ttrd3.losses.efficientnet_lite import MEAN, STD, load_efficientnet_lite2
from ttrd3.losses.shift_tolerant import load_shift_tolerant, vgg16
from ttrd3.losses.sizes import require_size
from ttrd3.losses.trunks import Trunk, fill_features
from ttrd3.pretrained import SOURCES

TrunkName = Literal["vgg16", "vgg16_shift_tolerant", "squeezenet", "efficientnet_lite2"]

# After the last ReLU of each of the five sizes of VGG16 and of four sizes of SqueezeNet; after the last block of each
# of the five sizes of EfficientNet-Lite2.
TAPS = {
    "vgg16": (3, 8, 15, 22, 29),
    "vgg16_shift_tolerant": (3, 8, 15, 22, 29),
    "squeezenet": (1, 4, 7, 12),
    "efficientnet_lite2": (1, 4, 7, 15, 21),
}
SMALLEST = 32  # side of an image: the last of the blurs reflects what is left of it


class TappedTrunk(nn.Module):
    """Normalisation of the image, then the first layers of a classification network; what several of them say.

    It computes in bfloat16 where the device multiplies that fast: the distances of features are no small differences.

    Attributes:
        key: Which network it is: of two with the same key the features are the same.
    """

    def __init__(self, trunk: Trunk, taps: Sequence[int], dtype: torch.dtype, key: str):
        super().__init__()
        self.trunk, self.taps, self.dtype, self.key = trunk, taps, dtype, key
        self.trunk.features.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features (N, C, h, w) of each tap.

        Raises:
            DataError: Images that are too small for the deepest of them.
        """
        require_size(image, SMALLEST, f"trunk {self.key.partition(' ')[0]}")
        x = ((image - self.trunk.mean) / self.trunk.std).to(self.dtype, memory_format=torch.channels_last)
        features = []
        with torch.autocast(image.device.type, enabled=False):
            for number, layer in enumerate(self.trunk.features):
                x = layer(x)
                if number in self.taps:
                    features.append(x)
        return features


def load_tapped(name: TrunkName, file: str | None, device: torch.device) -> TappedTrunk:
    """The trunk `name`, frozen.

    Raises:
        UserError: No file and no network, or a file that does not hold this network.
    """
    taps = TAPS[name]
    if name == "efficientnet_lite2":
        trunk = Trunk(load_efficientnet_lite2(file), (MEAN,) * 3, (STD,) * 3)
    elif name == "vgg16_shift_tolerant":
        trunk = Trunk(load_shift_tolerant(file, taps[-1] + 1))
    else:
        features = (vgg16() if name == "vgg16" else models.squeezenet1_1(weights=None).features)[: taps[-1] + 1]
        fill_features(features, SOURCES[name], file)
        trunk = Trunk(features)
    dtype = torch.bfloat16 if bfloat16_pays(device) else torch.float32
    return TappedTrunk(trunk, taps, dtype, f"{name} {file}").to(device)
