"""The residual that the model itself finds at another orientation, as a target: a self-ensemble learned.

The mean of a model's results over the eight orientations of an image (Timofte et al., arXiv:1511.02228) is nearer to
the truth than any of them, in eight times the time. A model that is taught the result at a random other orientation
learns that mean; taught by its own averaged weights (mean teacher, arXiv:1703.01780) it needs no second model.
"""

import torch
from torch import Tensor, nn

from ttrd3.inference.symmetries import symmetries, turned, turned_back


@torch.no_grad()
def residual_elsewhere(model: nn.Module, inputs: tuple[Tensor | None, ...], number: int, output: int) -> Tensor:
    """An output of `model` for images that are turned, turned back.

    Args:
        model: The averaged weights; autocast is the caller's.
        inputs: Of the model: x_t, t, up, reference, degraded reference, has_reference and fidelity (`TTRD3.forward`).
        number: Of the optimiser step: each of the seven other orientations has its turn.
        output: Which of the model's outputs.

    Returns:
        (N, 3, H, W), float32.
    """
    others = symmetries(True)[1:]
    symmetry = others[number % len(others)]
    x_t, t, *images, has_reference, fidelity = inputs
    outputs = model(turned(x_t, symmetry), t, *(turned(image, symmetry) for image in images), has_reference, fidelity)
    return turned_back(outputs[output].float(), symmetry)
