"""Distance of the posterior means in the features of a frozen network (TTRD3, specification section 1)."""

from typing import Literal

import torch
from torch import Tensor, nn

from ttrd3.losses.base import LOSSES, NORMS, Step, Weight
from ttrd3.losses.trunks import load_trunk


@LOSSES.register("perceptual")
class Perceptual:
    """Distance of u and u* in features of (u + 1) / 2, ImageNet-normalised.

    Options:
        trunk: `vgg19` up to conv5_1 before its ReLU (the paper's), or `squeezenet` 1.1 up to its last Fire module.
        file: Weights with torchvision's names; null takes torchvision's own, downloaded once where there is a network.
        norm: Mean absolute (l1) or squared (l2) error.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    def __init__(
        self,
        trunk: Literal["vgg19", "squeezenet"] = "vgg19",
        file: str | None = None,
        norm: Literal["l1", "l2"] = "l2",
        weight: Weight = 300.0,
        *,
        device: torch.device | str = "cpu",
    ):
        self.norm = norm
        self.weight = weight
        self.name = f"perceptual_{trunk}_{norm}"
        self.trunk: nn.Module = load_trunk(trunk, file).to(device)

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        with torch.no_grad():
            target = self.trunk((step.posterior_target + 1) / 2)
        return NORMS[self.norm](self.trunk((step.posterior + 1) / 2), target)
