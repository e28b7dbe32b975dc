"""A loss against the regular grids that networks unfolding pixels from channels leave (Odena et al., Distill 2016)."""

import torch.nn.functional as F
from torch import Tensor

from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.sizes import require_size

PERIOD = 4  # pixels that the UNet of TTRD3-S unfolds from one of its own
WINDOW = 8  # periods in each direction over which a grid is told from texture


@LOSSES.register("grid")
class Grid:
    """Mean absolute difference between x_0's and HR's grid of 4 x 4 pixels.

    Each of the 16 places in 4 x 4 pixels has an own mean over windows of 32 x 32 pixels; what they differ from their
    common mean is the grid. Real images have next to none, as they know nothing of our folds. To the features of
    frozen networks, and so to critics, a faint one looks like texture.

    Options:
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    name = "grid"

    def __init__(self, weight: Weight = 1.0):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar.

        Raises:
            DataError: Images smaller than a window, or of sizes that the grid does not divide.
        """
        require_size(step.x0, PERIOD * WINDOW, "grid", PERIOD)
        return grid(step.x0 - step.x0_target).abs().mean()


def grid(image: Tensor) -> Tensor:
    """(N, C, H, W) -> the grid of each window, (N, C, 16, H / 32, W / 32), of mean 0 over the 16 places."""
    places = F.pixel_unshuffle(image, PERIOD)  # (N, 16 C, h, w)
    means = F.avg_pool2d(places, WINDOW).unflatten(1, (-1, PERIOD**2))
    return means - means.mean(dim=2, keepdim=True)
