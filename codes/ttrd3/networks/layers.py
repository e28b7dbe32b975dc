"""Building blocks of the denoising UNets (specification section 4, after RDDM, arXiv:2308.13712)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS, HEAD_WIDTH = 4, 32  # attention is 4 heads of 32 at every width
GROUPS = 8


class WeightStandardizedConv2d(nn.Conv2d):
    """Convolution whose filters are standardised first: mean 0, variance 1 (biased, eps 1e-5) over each filter."""

    def standardized(self) -> Tensor:
        """The filters that the convolution is made with, (C', C, h, w)."""
        return F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        return F.conv2d(x, self.standardized(), self.bias, self.stride, self.padding)


class ChannelLayerNorm(nn.Module):
    """Normalisation over the channels of each pixel (biased variance, eps 1e-5) with a gain and no bias."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        return (x - mean) * torch.rsqrt(variance + 1e-5) * self.gain


class TimeEmbedding(nn.Module):
    """Integer time t = 0..T-1 -> sinusoids (sines first, then cosines) -> Linear, GELU, Linear."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))

    def forward(self, t: Tensor) -> Tensor:
        """(N,) -> (N, 4 width)."""
        angles = t[:, None].float() * self.frequencies[None]
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))


class Block(nn.Module):
    """Weight-standardised conv3x3 -> GroupNorm(8) -> optional (scale + 1, shift) -> SiLU."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.conv = WeightStandardizedConv2d(width_in, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(N, C, H, W), two (N, C', 1, 1) -> (N, C', H, W)."""
        x = self.norm(self.conv(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResnetBlock(nn.Module):
    """Two Blocks with a shortcut; the time embedding (SiLU, Linear to scale and shift) enters the first."""

    def __init__(self, width_in: int, width: int, time_width: int):
        super().__init__()
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * width))
        self.block1 = Block(width_in, width)
        self.block2 = Block(width, width)
        self.shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(N, C, H, W), (N, time width) -> (N, C', H, W)."""
        scale_shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, scale_shift)) + self.shortcut(x)


class GuidedBlock(nn.Module):
    """ResnetBlock of the 2Net variant: the second convolution sees [h, texture]; one (scale, shift) enters both."""

    def __init__(self, width_in: int, width: int, texture_width: int, time_width: int):
        super().__init__()
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * width))
        self.block1 = Block(width_in, width)
        self.block2 = Block(width + texture_width, width)
        self.shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, texture: Tensor, time: Tensor) -> Tensor:
        """(N, C, H, W), (N, texture width, H, W), (N, time width) -> (N, C', H, W)."""
        scale_shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        h = self.block1(x, scale_shift)
        return self.block2(torch.cat([h, texture], dim=1), scale_shift) + self.shortcut(x)


class LinearAttention(nn.Module):
    """Pre-normed attention linear in the number of pixels, with residual.

    q is softmaxed over its channels, k over positions; v is divided by H W; 1x1 convolution and LayerNorm follow.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = ChannelLayerNorm(width)
        self.qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(HEADS * HEAD_WIDTH, width, 1), ChannelLayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, _, h, w = x.shape
        q, k, v = _heads(self.qkv(self.norm(x)))  # (N, heads, 32, H W) each
        q = q.softmax(dim=2) * HEAD_WIDTH**-0.5
        k = k.softmax(dim=3)
        context = k @ v.transpose(2, 3)  # (N, heads, 32, 32)
        out = context.transpose(2, 3) @ q / (h * w)  # divided last: v / (h w) would vanish in float16
        return x + self.out(out.reshape(n, -1, h, w))


class Attention(nn.Module):
    """Pre-normed full attention over all positions, with residual."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = ChannelLayerNorm(width)
        self.qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.out = nn.Conv2d(HEADS * HEAD_WIDTH, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        n, _, h, w = x.shape
        q, k, v = (heads.transpose(2, 3) for heads in _heads(self.qkv(self.norm(x))))  # (N, heads, H W, 32)
        out = F.scaled_dot_product_attention(q, k, v)  # scaled by 32^-0.5
        return x + self.out(out.transpose(2, 3).reshape(n, -1, h, w))


def _heads(qkv: Tensor) -> tuple[Tensor, ...]:
    """(N, 3 * heads * 32, H, W), ordered (q, k, v) x head x 32 -> three (N, heads, 32, H W)."""
    n, _, h, w = qkv.shape
    return qkv.reshape(n, 3, HEADS, HEAD_WIDTH, h * w).unbind(1)


def downsample(width_in: int, width: int) -> nn.Module:
    """conv4x4 of stride 2."""
    return nn.Conv2d(width_in, width, 4, stride=2, padding=1)


def upsample(width_in: int, width: int) -> nn.Module:
    """Nearest neighbour x2, then conv3x3."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(width_in, width, 3, padding=1))
