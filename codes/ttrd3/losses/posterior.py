"""Distances in pixels: of the posterior means of x_{t-1} (TTRD3, specification section 1), and of x_0."""

from typing import ClassVar, Literal

from torch import Tensor

from ttrd3.losses.base import LOSSES, NORMS, Step, Weight


class PixelLoss:
    """Mean distance of two images of a step, each named by its attribute of `Step`."""

    kind: ClassVar[str]
    image: ClassVar[str]
    target: ClassVar[str]

    def __init__(self, norm: Literal["l1", "l2"] = "l1", weight: Weight = 1.0):
        self.norm = norm
        self.weight = weight
        self.name = f"{self.kind}_{norm}"

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        return NORMS[self.norm](getattr(step, self.image), getattr(step, self.target))


@LOSSES.register("posterior")
class PosteriorPixel(PixelLoss):
    """Distance of the posterior mean u of the prediction to u* of the truth.

    Options:
        norm: Mean absolute (l1) or squared (l2) error.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    kind, image, target = "posterior", "posterior", "posterior_target"

    def __init__(self, norm: Literal["l1", "l2"] = "l1", weight: Weight = 500.0):
        super().__init__(norm, weight)


@LOSSES.register("restored")
class RestoredPixel(PixelLoss):
    """Distance of the image x_0 that the outputs say to HR: what sampling in one step gives, where t = T-1.

    Options:
        norm: Mean absolute (l1) or squared (l2) error.
        by_fidelity: Weigh each image by F / (1 - F), with the fidelity F that the network was told (`ssim` too).
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    kind, image, target = "restored", "x0", "x0_target"

    def __init__(self, norm: Literal["l1", "l2"] = "l1", by_fidelity: bool = False, weight: Weight = 1.0):
        super().__init__(norm, weight)
        self.by_fidelity = by_fidelity
        self.name += "_by_fidelity" if by_fidelity else ""

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        if not self.by_fidelity:
            return super().__call__(step)
        terms = NORMS[self.norm](step.x0, step.x0_target, reduction="none").mean(dim=(1, 2, 3))
        return step.by_fidelity(terms)


@LOSSES.register("distilled")
class DistilledPixel(PixelLoss):
    """Distance of the image x_0 that the outputs say to what a teacher samples from the same noise (`distill`).

    Options:
        norm: Mean absolute (l1) or squared (l2) error.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    kind, image, target = "distilled", "x0", "x0_teacher"

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        if step.x0_teacher is None:
            raise ValueError("the loss `distilled` needs a teacher")
        return super().__call__(step)
