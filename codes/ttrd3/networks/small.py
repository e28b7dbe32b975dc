"""The small denoiser of TTRD3-S: all of it at the LR image's size and below, without normalisation or attention.

The enlarged LR image is smooth and the noise is white: nothing of either is lost when 4 x 4 pixels are folded into
channels, and most of the full-size work of the paper's UNets is saved. Without GroupNorm and attention a pixel depends
on its surroundings alone, not on the statistics of its tile, and colours need not be found again after each
normalisation (Lim et al., arXiv:1707.02921).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ttrd3.errors import ConfigError
from ttrd3.networks.layers import TimeEmbedding
from ttrd3.networks.unet import NOISE_GAIN, quiet
from ttrd3.networks.variants import UNETS, UNet
from ttrd3.registry import Count, PositiveInt

QUARTER = 4  # the LR image's size: HR pixels per LR pixel
BRANCH_GAIN = 0.1  # of a block's last convolution at the start: deep stacks without normalisation begin as the identity
TEXTURE_GAIN = 2.0  # brings STTG's weighted, excited textures to about the size of the features that they join
TIME_WIDTH = 32

Levels = Annotated[Sequence[PositiveInt], Field(min_length=2)]  # textures enter on the way up, which one level lacks


class PlainBlock(nn.Module):
    """x + conv3x3(SiLU(conv3x3(x))): two convolutions and as little else as possible."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(BRANCH_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.conv2(F.silu(self.conv1(x))).add_(x)


class TimedBlocks(nn.Module):
    """x (scale + 1) + shift, with scale and shift from the time embedding, then PlainBlocks."""

    def __init__(self, count: int, width: int, time_width: int):
        super().__init__()
        self.time = nn.Linear(time_width, 2 * width)
        self.blocks = nn.Sequential(*(PlainBlock(width) for _ in range(count)))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(N, C, H, W), (N, time width) -> (N, C, H, W)."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        return self.blocks(torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype) + 1))


class FidelityEmbedding(nn.Module):
    """Fidelity F in 0..1 -> Linear, GELU, Linear: what it adds to the time embedding, nothing before any training."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def forward(self, fidelity: Tensor) -> Tensor:
        """(N,) -> (N, width)."""
        return self.mlp(fidelity[:, None])


class NoiseBranch(nn.Module):
    """noise + (1 - F) conv3x3(TimedBlocks(x + conv3x3(noise))), all folded: features and noise -> the noise output.

    Where sampling starts, x_t - x_in is nothing but the noise: before any training the noise output is true there, and
    what is restored is the residual's image. At fidelity F = 1 it stays that. A branch that is not told F has F = 0.
    """

    def __init__(self, count: int, width: int, time_width: int, told_fidelity: bool):
        super().__init__()
        channels = 3 * QUARTER**2
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = TimedBlocks(count, width, time_width)
        self.head = quiet(nn.Conv2d(width, channels, 3, padding=1))
        self.fidelity = FidelityEmbedding(time_width) if told_fidelity else None

    def forward(self, x: Tensor, noise: Tensor, time: Tensor, fidelity: Tensor) -> Tensor:
        """(N, C, h, w), (N, 48, h, w), (N, time width), (N,) -> (N, 48, h, w)."""
        if self.fidelity is None:
            return noise + self.head(self.blocks(x + self.first(noise), time))
        detail = self.head(self.blocks(x + self.first(noise), time + self.fidelity(fidelity)))
        return noise + (1 - fidelity).to(detail.dtype)[:, None, None, None] * detail


@UNETS.register("S")
class SmallUNet(UNet):
    """One UNet at quarter size and below for all outputs, in which textures of any size enter at quarter size.

    Options:
        widths: Channels at 1/4, 1/8, ... of the image's size.
        encoder_blocks: Residual blocks of each level on the way down; those of the last are the middle.
        decoder_blocks: Residual blocks of each level on the way up, quarter size first, one level fewer.
        noise_blocks: Residual blocks of the last output's (the noise's) own, which takes the others' features and the
            noise itself and gives the noise and what is to be added to it. So it learns to look real (`train.only`)
            without a change to what is faithful; 0: the outputs share all but the last convolution.
        residual_blocks: Residual blocks of the first output's (the residual's) own, beside `noise_blocks`: what looks
            real may change the features that both share without all of it being the faithful end's loss.
        told_fidelity: The noise output is told the fidelity of `sampling`, and training draws it (`train.fidelity`):
            each fidelity has details of its own, in place of a share of the realistic end's.
    """

    def __init__(
        self,
        widths: Levels = (128, 192, 256),
        encoder_blocks: Levels = (2, 2, 3),
        decoder_blocks: Sequence[PositiveInt] = (8, 2),
        noise_blocks: Count = 0,
        residual_blocks: Count = 0,
        told_fidelity: bool = False,
        *,
        outputs: int,
        texture_widths: Sequence[int],
        texture_scales: Sequence[int],
    ):
        super().__init__()
        if len(encoder_blocks) != len(widths) or len(decoder_blocks) != len(widths) - 1:
            raise ConfigError(
                f"model.unet: found {len(widths)} widths, {len(encoder_blocks)} encoder_blocks and "
                f"{len(decoder_blocks)} decoder_blocks, expected as many encoder_blocks as widths and one fewer "
                "decoder_blocks"
            )
        if noise_blocks and outputs == 1:
            raise ConfigError(
                f"model.unet.noise_blocks: found {noise_blocks}, expected 0 with an objective of one output, which no "
                "other is to be told from"
            )
        if residual_blocks and not noise_blocks:
            raise ConfigError(
                f"model.unet.residual_blocks: found {residual_blocks}, expected 0 without model.unet.noise_blocks, "
                "whose counterpart they are; add them to the first of model.unet.decoder_blocks"
            )
        if told_fidelity and not noise_blocks:
            raise ConfigError(
                "model.unet.told_fidelity: found true, expected false without model.unet.noise_blocks, which are what "
                "is told"
            )
        self.told_fidelity = told_fidelity
        self.outputs = outputs
        self.size_multiple = QUARTER * 2 ** (len(widths) - 1)
        self.folds = [QUARTER // scale for scale in texture_scales]
        time_width = 4 * TIME_WIDTH
        pixel = QUARTER**2
        self.time = TimeEmbedding(TIME_WIDTH)
        self.first = nn.Conv2d(2 * 3 * pixel, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(map(TimedBlocks, encoder_blocks, widths, [time_width] * len(widths)))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))  # then pixel shuffle
        self.merges = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths[:-1])
        folded = sum(width * fold**2 for width, fold in zip(texture_widths, self.folds, strict=True))
        self.texture = nn.Conv2d(folded, widths[0], 3, padding=1, bias=False)  # no texture: nothing is added
        self.up_blocks = nn.ModuleList(map(TimedBlocks, decoder_blocks, widths, [time_width] * len(decoder_blocks)))
        self.residual = TimedBlocks(residual_blocks, widths[0], time_width) if residual_blocks else None
        self.head = quiet(nn.Conv2d(widths[0], 3 * (1 if noise_blocks else outputs) * pixel, 3, padding=1))
        self.noise = NoiseBranch(noise_blocks, widths[0], time_width, told_fidelity) if noise_blocks else None

    def forward(
        self, x_t: Tensor, x_in: Tensor, t: Tensor, textures: Sequence[Tensor], fidelity: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """(N, 3, H, W) in [-1, 1] twice, (N,), textures (N, C, H / s, W / s), (N,) -> one or two (N, 3, H, W)."""
        time = self.time(t)
        # What x_t adds to x_in; the difference is taken in the images' precision.
        noise = fold(NOISE_GAIN * (x_t - x_in), QUARTER)
        x = self.first(torch.cat([noise, fold(x_in, QUARTER)], dim=1))
        skips = []
        for blocks, down in zip(self.down_blocks[:-1], self.downs, strict=True):
            x = blocks(x, time)
            skips.append(x)
            x = down(x)
        x = self.down_blocks[-1](x, time)
        for number in reversed(range(len(skips))):
            x = F.pixel_shuffle(self.ups[number](x), 2)
            x = self.merges[number](torch.cat([x, skips[number]], dim=1))
            if number == 0:
                x = x + self.texture_features(textures)
            x = self.up_blocks[number](x, time)
        own = x if self.residual is None else self.residual(x, time)
        images = F.pixel_shuffle(self.head(own), QUARTER)
        if self.noise is None:
            return images.chunk(self.outputs, dim=1)
        fidelity = torch.zeros_like(t, dtype=torch.float32) if fidelity is None else fidelity
        return images, F.pixel_shuffle(self.noise(x, noise, time, fidelity), QUARTER)

    def texture_features(self, textures: Sequence[Tensor]) -> Tensor:
        """Textures (N, C, H / s, W / s) of all scales s -> what they add to the features at quarter size."""
        folded = [fold(texture, f) for texture, f in zip(textures, self.folds, strict=True)]
        return self.texture(TEXTURE_GAIN * torch.cat(folded, dim=1))


def fold(image: Tensor, s: int) -> Tensor:
    """(N, C, s H, s W) -> (N, C s s, H, W): pixel unshuffle."""
    return F.pixel_unshuffle(image, s) if s > 1 else image
