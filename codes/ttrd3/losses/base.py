"""What every loss is given, and the registry of losses."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Discriminator, Field, Tag
from torch import Tensor, nn

from ttrd3.registry import Registry

LOSSES = Registry("loss")


def _each_once(pairs: list[list[float]]) -> list[list[float]]:
    steps = [start for start, _ in pairs]
    twice = [start for start in steps if steps.count(start) > 1]
    if twice:
        raise ValueError(f"found step {twice[0]:g} twice, expected each step once, with the factor from it on")
    return pairs


_Factor = Annotated[float, Field(ge=0)]
_Pair = Annotated[list[_Factor], Field(min_length=2, max_length=2)]
Weight = Annotated[
    Annotated[_Factor, Tag("factor")]
    | Annotated[list[_Pair], Field(min_length=1), AfterValidator(_each_once), Tag("factors")],
    Discriminator(lambda value: "factors" if isinstance(value, list) else "factor"),  # a mistake is told once
]
"""A factor, or [[from step, factor], ...]: what it is from which optimiser step on; 0 before the first."""

NORMS = {"l1": F.l1_loss, "l2": F.mse_loss}


class Trunk(Protocol):
    """A frozen network; those with the same key are the same."""

    key: str

    def __call__(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features of several depths."""


def weight_at(weight: Weight, step: int) -> float:
    """The factor at optimiser step `step`."""
    if not isinstance(weight, list):
        return weight
    begun = [factor for start, factor in sorted(weight) if start <= step]
    return begun[-1] if begun else 0.0


def teaches_residual(loss: Any, step: int) -> bool:
    """Whether a loss, or its options, looks at the residual's target and counts at optimiser step `step`."""
    return getattr(loss, "of", None) == "residual" and weight_at(loss.weight, step) > 0


def turns(weights: Iterable[Weight]) -> list[int]:
    """The optimiser steps at which any of the weights changes, in order; 0 is the first."""
    starts = (math.ceil(start) for weight in weights if isinstance(weight, list) for start, _ in weight)
    return sorted({0, *starts})


@dataclass(frozen=True)
class Step:
    """One training step; all images (N, 3, H, W), [-1, 1] the range of the data, none of them clamped.

    Attributes:
        outputs: The network's outputs by what they carry, "residual" and/or "noise" (`Objective.outputs`).
        targets: What each should be.
        posterior: Posterior mean u of x_{t-1} from the predicted residual and noise.
        posterior_target: The same, u*, from the true residual and noise.
        x0: The image that the outputs say: x_t - abar[t] I_res - bbar[t] eps from the predicted residual and noise.
        x0_target: The true one, HR.
        faithful: x_in - I_res, the image that the predicted residual alone says: the faithful end of `fidelity`.
        x0_teacher: What a teacher samples from the same noise, where there is one (options `distill`).
        fidelity: (N,) in 0..1, the fidelity that a network which is told it was told for each image; else None.
    """

    outputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    posterior: Tensor
    posterior_target: Tensor
    x0: Tensor
    x0_target: Tensor
    faithful: Tensor
    x0_teacher: Tensor | None = None
    fidelity: Tensor | None = None
    _features: dict[tuple[str, str], list[Tensor]] = field(default_factory=dict, repr=False)

    def features(self, trunk: Trunk, name: str) -> list[Tensor]:
        """What a frozen trunk says of (image + 1) / 2 of the image `name`: once a step, for all terms that ask.

        Without gradient where the image has none, as the truth.
        """
        key = trunk.key, name
        if key not in self._features:
            self._features[key] = trunk((getattr(self, name) + 1) / 2)
        return self._features[key]

    def by_fidelity(self, terms: Tensor) -> Tensor:
        """Mean of the terms of the images, (N,), each F / (1 - F) times: the option `by_fidelity` of losses."""
        return (terms * self.fidelity / (1 - self.fidelity)).mean()

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
            x0=torch.where(valid, self.x0, self.x0_target),
            faithful=torch.where(valid, self.faithful, self.x0_target),
            x0_teacher=None if self.x0_teacher is None else torch.where(valid, self.x0_teacher, self.x0_target),
            _features={},
        )


class Loss(Protocol):
    """A named, weighted term; the trainer minimises the sum of `weight * loss(step)` and logs each by name."""

    name: str
    weight: Weight

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""


class Critic(Loss, Protocol):
    """A loss that learns too: after the networks' backward pass it takes a step of its own.

    Attributes:
        critic: What learns.
        adam: Its optimiser.
    """

    critic: nn.Module
    adam: torch.optim.Adam

    def critic_loss(self, step: Step) -> Tensor:
        """What the critic minimises, a scalar that no gradient reaches the networks from."""
