"""Distance of the network's outputs to their targets: the dual term of RDDM (arXiv:2308.13712)."""

from typing import Literal

from torch import Tensor

from ttrd3.losses.base import LOSSES, NORMS, Step, Weight


class PredictionLoss:
    """Mean distance of one output to its target."""

    norm: str

    def __init__(self, of: Literal["residual", "noise"], weight: Weight = 1.0):
        self.of = of
        self.weight = weight
        self.name = f"{self.norm}_{of}"

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        return NORMS[self.norm](step.outputs[self.of], step.targets[self.of])


@LOSSES.register("l1")
class L1(PredictionLoss):
    """Mean absolute error of an output of the network.

    Options:
        of: The output that carries the `residual` (or x_0, where the objective predicts that) or the `noise`.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    norm = "l1"


@LOSSES.register("l2")
class L2(PredictionLoss):
    """Mean squared error of an output of the network.

    Options:
        of: The output that carries the `residual` (or x_0, where the objective predicts that) or the `noise`.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    norm = "l2"
