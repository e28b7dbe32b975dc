"""MFAB encoder: three scales of features of LR and reference (TTRD3, arXiv:2504.13026; specification section 2)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ttrd3.networks.attention import CBAM
from ttrd3.networks.layers import ChannelLayerNorm
from ttrd3.registry import PositiveInt, Registry

ENCODERS = Registry("encoder")
KERNELS = (3, 5, 7)
SCALES = (1, 2, 4)  # HR pixels per pixel of the paper's three levels


class PaperMFAB(nn.Module):
    """Multi-scale feature aggregation block as the paper draws it.

    LayerNorm, 1x1 to 3h, one depth-wise kernel (3, 5, 7) per third + ReLU, a second multi-scale stage of grouped
    convolutions 3h -> h each + ReLU, CBAM over 3h, 1x1 back, residual. The paper gives no widths; h is ours.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = ChannelLayerNorm(width)
        self.project_in = nn.Conv2d(width, 3 * hidden, 1)
        self.stage1 = nn.ModuleList(nn.Conv2d(hidden, hidden, k, padding=k // 2, groups=hidden) for k in KERNELS)
        self.stage2 = nn.ModuleList(nn.Conv2d(3 * hidden, hidden, k, padding=k // 2, groups=hidden) for k in KERNELS)
        self.attention = CBAM(3 * hidden)
        self.project_out = nn.Conv2d(3 * hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        parts = self.project_in(self.norm(x)).chunk(3, dim=1)
        h = torch.cat([F.relu(conv(part)) for conv, part in zip(self.stage1, parts, strict=True)], dim=1)
        h = torch.cat([F.relu(conv(h)) for conv in self.stage2], dim=1)
        return x + self.project_out(self.attention(h))


class ReleasedMFAB(nn.Module):
    """MFAB as the authors' released code computes it.

    No norm, no biases; each depth-wise kernel sees all 3h channels, and CBAM works on 9h; the second stage is missing.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        inner = 3 * hidden
        self.project_in = nn.Conv2d(width, inner, 1, bias=False)
        self.stage1 = nn.ModuleList(
            nn.Conv2d(inner, inner, k, padding=k // 2, groups=inner, bias=False) for k in KERNELS
        )
        self.attention = CBAM(3 * inner)
        self.project_out = nn.Conv2d(3 * inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        h = self.project_in(x)
        thirds = [F.relu(conv(h)).chunk(3, dim=1) for conv in self.stage1]  # [kernel][part]
        h = torch.cat([thirds[kernel][part] for part in range(3) for kernel in range(3)], dim=1)
        return x + self.project_out(self.attention(h))


@ENCODERS.register("MFAB")
class MFABEncoder(nn.Module):
    """conv3x3, then levels of MFABs, each at half the size of the one before, with a strided conv3x3 between them.

    The paper has three, at full, half and quarter size. The last is always at quarter size, that of the LR image, where
    LR and reference are matched; fewer levels leave out the large sizes, where most of the time goes.

    Attributes:
        scales: HR pixels per pixel of each level, as (1, 2, 4).

    Options:
        block: MFAB as in the `paper` or as in the authors' `released` code.
        widths: Channels of the levels, the last at quarter size. With fewer than three, pixels are folded into channels
            (pixel unshuffle) before the first convolution.
        hidden: Width h of each of the three parts inside an MFAB.
        blocks: MFABs per level.
        value_range: What the encoder sees: `unit` images in [0, 1]; `released` shifts them to [0.5, 1], a fault kept
            for the authors' weights.
    """

    def __init__(
        self,
        block: Literal["paper", "released"] = "paper",
        widths: Annotated[Sequence[PositiveInt], Field(min_length=1, max_length=3)] = (64, 128, 256),
        hidden: PositiveInt = 16,
        blocks: PositiveInt = 2,
        value_range: Literal["unit", "released"] = "unit",
    ):
        super().__init__()
        kind = {"paper": PaperMFAB, "released": ReleasedMFAB}[block]
        self.widths: Sequence[int] = tuple(widths)
        self.scales: Sequence[int] = SCALES[-len(widths) :]
        self.value_range = value_range
        self.first = nn.Conv2d(3 * self.scales[0] ** 2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.Sequential(*(kind(width, hidden) for _ in range(blocks))) for width in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features (N, C, H / s, W / s) for each s of `scales`."""
        image = (image + 1) / 2 if self.value_range == "released" else image
        x = self.first(F.pixel_unshuffle(image, self.scales[0]) if self.scales[0] > 1 else image)
        features = [self.levels[0](x)]
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            features.append(level(down(features[-1])))
        return features
