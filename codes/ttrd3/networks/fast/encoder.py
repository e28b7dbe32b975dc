"""The MFAB encoder for sampling: few passes over memory, depth-wise convolutions in the layout that suits CPUs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttrd3.networks.attention import CBAM
from ttrd3.networks.fast.attention import image, pixels
from ttrd3.networks.fast.convolutions import fold, frozen
from ttrd3.networks.mfab import KERNELS, MFABEncoder, PaperMFAB, ReleasedMFAB

WIDEST = max(KERNELS)


def fast_encoder(encoder: MFABEncoder) -> MFABEncoder:
    """A frozen float32 copy that computes the same, up to rounding.

    It stays float32: STTG ranks places of the reference by features that differ little.
    """
    encoder = frozen(encoder).float().to(memory_format=torch.channels_last)
    for level in encoder.levels:
        for number, block in enumerate(level):
            level[number] = (FastPaperMFAB if isinstance(block, PaperMFAB) else FastReleasedMFAB)(block)
    return encoder


def depthwise(convs: nn.ModuleList) -> tuple[Tensor, Tensor | None]:
    """Depth-wise filters of 3, 5 and 7 pixels as one depth-wise convolution: padded with zeros to 7, in this order."""
    padded = [F.pad(conv.weight, [(WIDEST - conv.kernel_size[0]) // 2] * 4) for conv in convs]
    bias = None if convs[0].bias is None else torch.cat([conv.bias for conv in convs])
    return fold(torch.cat(padded), torch.float32), bias


class FastCBAM(nn.Module):
    """CBAM, then a 1x1 convolution: what scales whole pixels is applied to the fewer channels after it."""

    def __init__(self, attention: CBAM, order: list[int], project_out: nn.Conv2d):
        """`order`: which channel of the attention each incoming channel is."""
        super().__init__()
        down, up = attention.mlp[0].weight.flatten(1), attention.mlp[2].weight.flatten(1)
        self.down, self.up = fold(down[:, order], torch.float32), fold(up[order], torch.float32)
        self.spatial = attention.spatial
        self.weight = fold(project_out.weight[:, order], torch.float32)
        self.bias = None if project_out.bias is None else project_out.bias[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), which is overwritten -> (N, C', H, W)."""
        values = pixels(x)
        pooled = torch.stack([values.amax(dim=1), values.mean(dim=1)])
        channels = F.linear(F.linear(pooled, self.down).relu(), self.up).sum(dim=0).sigmoid()
        x = x.mul_(channels[:, :, None, None])
        maps = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        out = F.conv2d(x, self.weight).mul_(self.spatial(maps).sigmoid_())
        return out if self.bias is None else out.add_(self.bias)


class FastReleasedMFAB(nn.Module):
    """ReleasedMFAB with its three depth-wise convolutions in one: each of them sees a copy of the 3h channels."""

    def __init__(self, block: ReleasedMFAB):
        super().__init__()
        inner = block.project_in.out_channels
        self.project_in = fold(block.project_in.weight.repeat(3, 1, 1, 1), torch.float32)
        self.stage1, _ = depthwise(block.stage1)
        # Here [kernel][part][h], in the plain block [part][kernel][h].
        order = torch.arange(3 * inner).view(3, 3, -1).transpose(0, 1).flatten().tolist()
        self.attention = FastCBAM(block.attention, order, block.project_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        h = F.conv2d(x, self.project_in)
        h = F.conv2d(h, self.stage1, padding=WIDEST // 2, groups=h.shape[1]).relu_()
        return self.attention(h).add_(x)


class FastPaperMFAB(nn.Module):
    """PaperMFAB whose grouped convolutions, three channels to one, are depth-wise ones and sums of three.

    The channels inside are reordered: the first of all groups, the second of all, the third of all.
    """

    def __init__(self, block: PaperMFAB):
        super().__init__()
        weight, gain = block.project_in.weight, block.norm.gain
        hidden = block.stage2[0].out_channels
        groups = torch.arange(3 * hidden).view(hidden, 3).T.flatten().tolist()
        self.project_in = fold((weight * gain)[groups], torch.float32)
        self.bias_in = fold(block.project_in.bias[groups], torch.float32)
        filters, bias = depthwise(block.stage1)
        self.stage1, self.bias1 = fold(filters[groups], torch.float32), fold(bias[groups], torch.float32)
        self.stage2 = []
        for conv in block.stage2:
            filters = conv.weight.transpose(0, 1).reshape(3 * hidden, 1, *conv.kernel_size)
            bias = torch.cat([conv.bias, conv.bias.new_zeros(2 * hidden)])
            self.stage2.append((fold(filters, torch.float32), fold(bias, torch.float32), conv.padding))
        self.attention = FastCBAM(block.attention, list(range(3 * hidden)), block.project_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        normed = image(F.layer_norm(pixels(x), (x.shape[1],)), x)
        h = F.conv2d(normed, self.project_in, self.bias_in)
        h = F.conv2d(h, self.stage1, self.bias1, padding=WIDEST // 2, groups=h.shape[1]).relu_()
        stage2 = []
        for weight, bias, padding in self.stage2:
            a, b, c = F.conv2d(h, weight, bias, padding=padding, groups=h.shape[1]).chunk(3, dim=1)
            stage2.append((a + b).add_(c).relu_())
        return self.attention(torch.cat(stage2, dim=1)).add_(x)
