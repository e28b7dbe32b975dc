"""A loss in the LR image's space: what is invented between the LR pixels is free, what contradicts them is not."""

import torch.nn.functional as F
from torch import Tensor

from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.sizes import require_size

SCALE = 4  # HR pixels per LR pixel in each direction


@LOSSES.register("consistency")
class LRConsistency:
    """Mean absolute difference between the bicubic reductions of x_0 and HR: what the metric `consistency` looks at.

    The LR image is known: details that change it are errors however real they look. Those that it says nothing of,
    which is where texture lies, this term leaves alone, so it costs no realism, unlike a distance of the images.

    Options:
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    name = "consistency"

    def __init__(self, weight: Weight = 1.0):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar.

        Raises:
            DataError: Images of sizes that the scale does not divide.
        """
        require_size(step.x0, SCALE, "consistency", SCALE)
        return reduced(step.x0.float() - step.x0_target.float()).abs().mean()


def reduced(image: Tensor) -> Tensor:
    """(N, C, 4 H, 4 W) -> (N, C, H, W) by the antialiased bicubic filter that LR images are made with, not rounded."""
    return F.interpolate(image, scale_factor=1 / SCALE, mode="bicubic", antialias=True)
