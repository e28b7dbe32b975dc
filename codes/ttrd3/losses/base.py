"""What every loss is given, and the registry of losses."""

from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ttrd3.registry import Registry

LOSSES = Registry("loss")

Weight = Annotated[float, Field(ge=0)]
NORMS = {"l1": F.l1_loss, "l2": F.mse_loss}


@dataclass(frozen=True)
class Step:
    """One training step; all images (N, 3, H, W), [-1, 1] the range of the data, none of them clamped.

    Attributes:
        outputs: The network's outputs by what they carry, "residual" and/or "noise" (`Objective.outputs`).
        targets: What each should be.
        posterior: Posterior mean u of x_{t-1} from the predicted residual and noise.
        posterior_target: The same, u*, from the true residual and noise.
    """

    outputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    posterior: Tensor
    posterior_target: Tensor

    def masked(self, valid: Tensor) -> "Step":
        """The step with what was predicted where there are no data replaced by its target.

        No loss needs to know of masks then: nothing of such pixels counts or has a gradient. Means are still taken
        over all pixels, so that each valid pixel weighs the same in every image and batch, and the mean over several
        processes is that of one; a term reads lower by the share of pixels without data.

        Args:
            valid: bool (N, 1, H, W).
        """
        return replace(
            self,
            outputs={name: torch.where(valid, output, self.targets[name]) for name, output in self.outputs.items()},
            posterior=torch.where(valid, self.posterior, self.posterior_target),
        )


class Loss(Protocol):
    """A named, weighted term; the trainer minimises the sum of `weight * loss(step)` and logs each by name."""

    name: str
    weight: float

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
