"""Files of the layouts that frozen networks are read from, with weights that nobody trained, and steps to look at."""

from pathlib import Path

import torch
from torch import Tensor

from ttrd3.losses import Step

# Number of each layer with weights in the shift-tolerant file -> channels in and out, by the size that it works at.
SLICES = {
    1: {0: (3, 64), 2: (64, 64)},
    2: {6: (64, 128), 8: (128, 128)},
    3: {12: (128, 256), 14: (256, 256), 16: (256, 256)},
    4: {20: (256, 512), 22: (512, 512), 24: (512, 512)},
    5: {28: (512, 512), 30: (512, 512), 32: (512, 512)},
}
BLURS = {2: (5, 64), 3: (11, 128), 4: (19, 256), 5: (27, 512)}


def save_shift_tolerant(path: Path) -> Path:
    """The layout of `vgg_shift_tolerant.pth` in the package stlpips-pytorch 0.0.2."""
    torch.manual_seed(3)
    line = torch.tensor([1.0, 2.0, 1.0])
    state = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
    for part, layers in SLICES.items():
        if part in BLURS:
            number, width = BLURS[part]
            state[f"net.slice{part}.{number}.filt"] = (line[:, None] * line / 16).repeat(width, 1, 1, 1)
        for number, (there, width) in layers.items():
            state[f"net.slice{part}.{number}.weight"] = torch.randn(width, there, 3, 3) * (2 / (9 * there)) ** 0.5
            state[f"net.slice{part}.{number}.bias"] = torch.randn(width) * 0.05
        state[f"lin{part - 1}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(state, path)
    return path


def step(n=2, size=32) -> Step:
    """Random images everywhere."""
    images = [torch.randn(n, 3, size, size) * 0.3 for _ in range(9)]
    return Step({"residual": images[0], "noise": images[1]}, {"residual": images[2], "noise": images[3]}, *images[4:])


def leaf(image: Tensor) -> Tensor:
    """A copy that gathers a gradient."""
    return image.detach().clone().requires_grad_()
