"""Structural similarity as a loss (Zhao et al., arXiv:1511.08861): what L1 alone leaves of structure."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.sizes import require_size

WINDOW = 7  # pixels of the uniform window, that of the metric
PEAK = 2.0  # of images in [-1, 1]
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
SAMPLE = WINDOW**2 / (WINDOW**2 - 1)  # of a variance estimated from a window


@LOSSES.register("ssim")
class StructuralDissimilarity:
    """1 - SSIM of an image to HR, the mean over 7 x 7 windows and RGB: what the metric `ssim` measures by default.

    L1 weighs an error alike wherever it is; SSIM weighs it by the contrast around it, so weak texture counts too.

    Options:
        image: `faithful`, the image x_in - I_res that the residual alone says; or `x0`, the one that all outputs say.
        by_fidelity: Weigh each image by F / (1 - F), with the fidelity F that the network was told: 0 where it is to
            look real, ever more towards the faithful end.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    def __init__(self, image: Literal["faithful", "x0"], by_fidelity: bool = False, weight: Weight = 0.1):
        self.image = image
        self.by_fidelity = by_fidelity
        self.weight = weight
        self.name = f"ssim_{image}_by_fidelity" if by_fidelity else f"ssim_{image}"

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar: in [0, 2], where it is not by fidelity.

        Raises:
            DataError: Images smaller than the window.
        """
        image: Tensor = getattr(step, self.image)
        require_size(image, WINDOW, "ssim")
        terms = 1 - ssim(image.float(), step.x0_target.float()).mean(dim=(1, 2, 3))
        return step.by_fidelity(terms) if self.by_fidelity else terms.mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of each whole window of two images (N, C, H, W) in [-1, 1]: (N, C, H - 6, W - 6) in [-1, 1]."""
    mean_a, mean_b, aa, bb, ab = (F.avg_pool2d(x, WINDOW, stride=1) for x in (a, b, a * a, b * b, a * b))
    variances = SAMPLE * (aa - mean_a * mean_a + bb - mean_b * mean_b)
    covariance = SAMPLE * (ab - mean_a * mean_b)
    means = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    return means * (2 * covariance + C2) / (variances + C2)
