"""ResnetBlock and GuidedBlock for sampling: the time embedding of every step becomes a gain and bias of GroupNorm."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ttrd3.networks.fast.convolutions import FastConv, fold, frozen
from ttrd3.networks.layers import GROUPS, Block, GuidedBlock, ResnetBlock

Step = Callable[[Tensor, int], Tensor]
"""(N, C, H, W) and the number of the step -> (N, C', H, W)."""


class FastBlock:
    """Block: the filters are standardised once; (scale, shift) go into GroupNorm's gain and bias."""

    def __init__(self, block: Block, dtype: torch.dtype, constant: int = 0):
        self.conv = FastConv(block.conv, dtype, constant)
        self.gain, self.bias = fold(block.norm.weight, torch.float32), fold(block.norm.bias, torch.float32)

    def begin(self, scale_shift: Tensor | None, constant: Tensor | None = None) -> Step:
        """(K, 2 C') of the K steps, or None for none; constant input channels (N, C2, H, W) -> the steps."""
        gain, bias = self.gain[None], self.bias[None]
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, dim=1)
            gain, bias = gain * (scale + 1), bias * (scale + 1) + shift
        if gain.device.type == "cuda":  # the CPU mixes a float32 gain with bfloat16 images
            gain, bias = gain.to(self.conv.dtype), bias.to(self.conv.dtype)
        conv = self.conv.begin(constant)

        def step(x: Tensor, number: int) -> Tensor:
            row = number if scale_shift is not None else 0
            return F.silu(F.group_norm(conv(x), GROUPS, gain[row], bias[row]), inplace=True)

        return step


class FastResnetBlock:
    """ResnetBlock whose last `constant` input channels are the same at every step, or GuidedBlock with its texture."""

    def __init__(self, block: ResnetBlock | GuidedBlock, dtype: torch.dtype, constant: int = 0):
        self.guided = isinstance(block, GuidedBlock)
        self.time = frozen(block.time)
        self.block1 = FastBlock(block.block1, dtype, 0 if self.guided else constant)
        self.block2 = FastBlock(block.block2, dtype, constant if self.guided else 0)
        is_identity = isinstance(block.shortcut, torch.nn.Identity)
        self.shortcut = None if is_identity else FastConv(block.shortcut, dtype, 0 if self.guided else constant)

    def begin(self, times: Tensor, constant: Tensor | None = None) -> Step:
        """Time embeddings of the K steps (K, time width), constant channels or texture -> the steps."""
        scale_shift = self.time(times)
        if self.guided:
            block1, block2 = self.block1.begin(scale_shift), self.block2.begin(scale_shift, constant)
            shortcut = self.shortcut
        else:
            block1, block2 = self.block1.begin(scale_shift, constant), self.block2.begin(None)
            shortcut = self.shortcut and self.shortcut.begin(constant)

        def step(x: Tensor, number: int) -> Tensor:
            h = block2(block1(x, number), number)
            return h.add_(x if shortcut is None else shortcut(x))

        return step
