"""VGG16 trained with blurred pooling (ST-LPIPS, arXiv:2207.13686), and the weights that people's judgements gave it."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from ttrd3.losses.packaged import Packaged
from ttrd3.pretrained import fill

SHIFT_TOLERANT = Packaged(
    "vgg16_shift_tolerant", "stlpips-pytorch==0.0.2", "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth"
)
POOLS = (4, 9, 16, 23)  # of VGG16; the fifth is behind the last tap
CONVOLUTIONS = "net.slice"  # of the file, followed by number of size and layer
LINEAR = "lin{}.model.1.weight"  # of the same file, by depth from 0: what LPIPS weighs the channels with


class Blur(nn.Module):
    """Max pooling that tolerates shifts: dense, then [1, 2, 1] x [1, 2, 1] / 16 of stride 2 (arXiv:1904.11486)."""

    kernel: Tensor

    def __init__(self, width: int):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16).repeat(width, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2 + 1, W / 2 + 1)."""
        x = F.pad(F.max_pool2d(x, 2, stride=1), (2, 2, 2, 2), mode="reflect")
        return F.conv2d(x, self.kernel, stride=2, groups=x.shape[1])


def vgg16() -> nn.Sequential:
    """VGG16 without its classifier, which is most of it."""
    return models.vgg.make_layers(models.vgg.cfgs["D"], batch_norm=False)


def load_shift_tolerant(file: str | None, layers: int) -> nn.Sequential:
    """Its first `layers` layers, frozen.

    Raises:
        UserError: There is no file, or it does not hold this network.
    """
    features = vgg16()[:layers]
    for number in POOLS:
        features[number] = Blur(features[number - 2].out_channels)
    file, state = SHIFT_TOLERANT.state(file)
    stored = iter(_convolutions(state))
    renamed = {}
    for number, layer in enumerate(features):
        if isinstance(layer, nn.Conv2d):
            key = next(stored, "")
            renamed |= {f"{number}.{kind}": state.get(f"{key}.{kind}", torch.empty(0)) for kind in ("weight", "bias")}
    fill(features, renamed, SHIFT_TOLERANT.source, file)
    return features


def load_linear(file: str | None) -> list[Tensor]:
    """LPIPS's weights of the channels at each depth, (C, 1, 1).

    Raises:
        UserError: There is no file, or it does not hold them.
    """
    file, state = SHIFT_TOLERANT.state(file)
    widths = (64, 128, 256, 512, 512)
    layers = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
    renamed = {f"{n}.weight": state.get(LINEAR.format(n), torch.empty(0)) for n in range(len(widths))}
    fill(layers, renamed, SHIFT_TOLERANT.source, file)
    return [layer.weight[0] for layer in layers]


def _convolutions(state: dict[str, Tensor]) -> Iterator[str]:
    """`net.slice1.0`, `net.slice1.2`, `net.slice2.6`, ... in the order of the layers."""
    names = {key.rpartition(".")[0] for key in state if key.startswith(CONVOLUTIONS) and key.endswith(".bias")}
    return iter(sorted(names, key=lambda name: int(name.rpartition(".")[2])))
