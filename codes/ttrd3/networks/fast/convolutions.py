"""Convolutions for sampling: of partly constant inputs, and of images enlarged twofold."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttrd3.networks.layers import WeightStandardizedConv2d

# The 3 taps of a row of an enlarged image fall on 2 pixels of the small one: [phase][tap of 2][tap of 3].
PHASES = ((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1))


def fold(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A frozen copy, channels last, of a filter; other tensors are copied as they are."""
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.detach().to(dtype, memory_format=layout, copy=True)


def frozen(module: nn.Module) -> nn.Module:
    """A copy that no longer learns."""
    return copy.deepcopy(module).eval().requires_grad_(False)


class FastConv:
    """A convolution of [changing, constant] channels: what the constant ones contribute is computed once (`begin`).

    conv([a, b]) = conv_a(a) + conv_b(b), up to rounding. Standardised filters are standardised whole, then split.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, constant: int = 0):
        """`constant`: how many of the last input channels are the same at every step."""
        weight = conv.standardized() if isinstance(conv, WeightStandardizedConv2d) else conv.weight
        changing = weight.shape[1] - constant
        self.dtype = dtype
        self.weight = fold(weight[:, :changing], dtype)
        self.constant_weight = fold(weight[:, changing:], dtype)
        self.bias = fold(conv.bias, dtype)
        self.stride, self.padding = conv.stride, conv.padding

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W'), as if the constant channels were zeros."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def begin(self, constant: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Constant channels (N, C2, H, W), or None for zeros -> the convolution of the changing ones."""
        if constant is None:
            return self
        constant = constant.to(self.dtype, memory_format=torch.channels_last)
        offset = F.conv2d(constant, self.constant_weight, self.bias, self.stride, self.padding)
        return lambda x: F.conv2d(x, self.weight, None, self.stride, self.padding).add_(offset)


class FastUpsample:
    """Nearest neighbour x2, then conv3x3, as one conv2x2 of the small image with four times the filters.

    Each pixel of the result sees 2x2 pixels of the small image, with sums of the 3x3 weights that depend on whether its
    row and column are even or odd: 2.25 times fewer operations, and the enlarged input is never made.
    """

    def __init__(self, upsample: nn.Sequential, dtype: torch.dtype):
        conv = upsample[1]
        taps = conv.weight.new_tensor(PHASES)
        weight = torch.einsum("pyi,qxj,ocij->pqocyx", taps, taps, conv.weight)
        self.weight = fold(weight.flatten(0, 2), dtype)  # (4 C', C, 2, 2)
        self.bias = fold(conv.bias.repeat(4), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', 2 H, 2 W)."""
        n, _, h, w = x.shape
        phases = F.conv2d(x, self.weight, self.bias, padding=1).permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))
        rows = [[phases[:, row : row + h, column : column + w, row, column] for column in (0, 1)] for row in (0, 1)]
        out = torch.stack([torch.stack(row, dim=3) for row in rows], dim=2)  # (N, H, 2, W, 2, C')
        return out.view(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)
