"""An adversarial term whose critics look at features of a frozen network (Projected GAN, arXiv:2111.01007)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.tapped import TrunkName, load_tapped
from ttrd3.registry import PositiveInt

PROBE = 32  # side of an image that tells how many channels each depth of a trunk has


class Critics(nn.ModuleList):
    """One critic a depth: conv1x1, conv3x3 of stride 2, conv3x3 to one channel, leaky ReLU between.

    All but the last have spectral norm. They begin at full size, where a grid of the pixels that the UNet unfolds from
    its own is told from texture best. And they see how strong features are, which is much of what full size says.
    """

    def __init__(self, widths: list[int], width: int):
        super().__init__(
            nn.Sequential(
                spectral_norm(nn.Conv2d(there, width, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1, stride=2)),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 3, padding=1),  # free in its scale: else features that differ little stay alike
            )
            for there in widths
        )

    def forward(self, features: list[Tensor], truth: list[Tensor]) -> list[Tensor]:
        """How real each place looks, (N, 1, h / 2, w / 2) for each depth.

        Args:
            features: (N, C, h, w) of each depth.
            truth: Those of HR in the same pass. Their root mean square brings each depth to about 1 (in VGG16 it is
                0.1 to 17); accumulated passes and processes each have their own, as in batch normalisation.
        """
        scales = (depth.float().square().mean().clamp_min(1e-8).rsqrt() for depth in truth)
        return [critic(x.float() * scale) for critic, x, scale in zip(self, features, scales, strict=True)]


@LOSSES.register("adversarial")
class Adversarial:
    """Hinge loss of critics that learn to tell x_0 from HR by a frozen network's features; mean over its depths.

    Options:
        trunk: The network, as of the loss `features`, with which it shares what it computes.
        file: Its weights; null as there.
        width: Channels inside a critic.
        learning_rate: Of the critics' own Adam (0.5, 0.99).
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    def __init__(
        self,
        trunk: TrunkName = "vgg16",
        file: str | None = None,
        width: PositiveInt = 64,
        learning_rate: Annotated[float, Field(gt=0)] = 2e-4,
        weight: Weight = 0.01,
        *,
        device: torch.device | str = "cpu",
    ):
        self.weight = weight
        self.name = f"adversarial_{trunk}"
        self.trunk = load_tapped(trunk, file, torch.device(device))
        with torch.no_grad():
            widths = [f.shape[1] for f in self.trunk(torch.zeros(1, 3, PROBE, PROBE, device=device))]
        self.critic: nn.Module = Critics(widths, width).to(device)
        self.adam = torch.optim.Adam(self.critic.parameters(), learning_rate, (0.5, 0.99), fused=True)

    def __call__(self, step: Step) -> Tensor:
        """The networks' term, a scalar: how unreal x_0 looks."""
        self.critic.requires_grad_(False)  # this gradient is for the networks alone
        said = self.critic(step.features(self.trunk, "x0"), step.features(self.trunk, "x0_target"))
        return -torch.stack([real.mean() for real in said]).mean()

    def critic_loss(self, step: Step) -> Tensor:
        """The critics' term, a scalar: hinge of x_0 above -1 and of HR below 1."""
        self.critic.requires_grad_(True)
        truth = step.features(self.trunk, "x0_target")
        fake = self.critic([f.detach() for f in step.features(self.trunk, "x0")], truth)
        real = self.critic(truth, truth)
        terms = [F.relu(1 + a).mean() + F.relu(1 - b).mean() for a, b in zip(fake, real, strict=True)]
        return torch.stack(terms).mean()
