"""What every loss is given, and the registry of losses."""

from dataclasses import dataclass
from typing import Annotated, Protocol

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


class Loss(Protocol):
    """A named, weighted term; the trainer minimises the sum of `weight * loss(step)` and logs each by name."""

    name: str
    weight: float

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
