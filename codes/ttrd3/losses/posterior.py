"""Distance of the posterior means of x_{t-1}, in pixels (TTRD3, specification section 1)."""

from typing import Literal

from torch import Tensor

from ttrd3.losses.base import LOSSES, NORMS, Step, Weight


@LOSSES.register("posterior")
class PosteriorPixel:
    """Distance of the posterior mean u of the prediction to u* of the truth.

    Options:
        norm: Mean absolute (l1) or squared (l2) error.
        weight: Factor of the term.
    """

    def __init__(self, norm: Literal["l1", "l2"] = "l1", weight: Weight = 500.0):
        self.norm = norm
        self.weight = weight
        self.name = f"posterior_{norm}"

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        return NORMS[self.norm](step.posterior, step.posterior_target)
