"""Parts of the denoising UNets: encoder, middle and decoder (specification section 4).

The widths of the levels, full resolution first, are `width * multiplier`. Textures of STTG enter the decoder at full,
half and quarter size, in the order [full, half, quarter].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttrd3.errors import ConfigError
from ttrd3.networks.layers import (
    GROUPS,
    Attention,
    GuidedBlock,
    LinearAttention,
    ResnetBlock,
    downsample,
    upsample,
)

TEXTURE_LEVELS = 3
NOISE_GAIN = 10.0
HEAD_GAIN = 0.1


def quiet(head: nn.Conv2d) -> nn.Conv2d:
    """Make training start near "no residual, no noise", that is near bicubic, instead of from a random picture."""
    with torch.no_grad():
        head.weight.mul_(HEAD_GAIN)
        head.bias.zero_()
    return head


def level_widths(width: int, multipliers: Sequence[int]) -> list[int]:
    """Channels of each level, full resolution first.

    Raises:
        ConfigError: Fewer levels than there are textures, or widths that GroupNorm or the time embedding cannot take.
    """
    if len(multipliers) < TEXTURE_LEVELS:
        raise ConfigError(
            f"model.unet.multipliers: found {list(multipliers)}, expected at least {TEXTURE_LEVELS} levels, "
            "because textures enter at full, half and quarter size"
        )
    if width % GROUPS:
        raise ConfigError(f"model.unet.width: found {width}, expected a multiple of {GROUPS} (groups of GroupNorm)")
    return [width * multiplier for multiplier in multipliers]


def require_texture_scales(scales: Sequence[int]) -> None:
    """Refuse textures of other sizes than full, half and quarter.

    Raises:
        ConfigError: The encoder has fewer levels.
    """
    if len(scales) != TEXTURE_LEVELS:
        raise ConfigError(
            f"model.encoder.widths: found {len(scales)} levels, expected {TEXTURE_LEVELS}: the paper's UNets take "
            "textures at full, half and quarter size. Give three widths, or set model.unet.type: S."
        )


class Encoder(nn.Module):
    """conv7x7 of [x_t, x_in], then levels of block, block + linear attention, down (the last: conv3x3)."""

    def __init__(self, widths: Sequence[int], time_width: int):
        super().__init__()
        self.first = nn.Conv2d(6, widths[0], 7, padding=3)
        _see_the_noise(self.first)
        self.levels = nn.ModuleList()
        for width, width_below in zip(widths, [*widths[1:], None], strict=True):
            last = nn.Conv2d(width, width, 3, padding=1)
            level = nn.ModuleDict(
                {
                    "block1": ResnetBlock(width, width, time_width),
                    "block2": ResnetBlock(width, width, time_width),
                    "attention": LinearAttention(width),
                    "down": last if width_below is None else downsample(width, width_below),
                }
            )
            self.levels.append(level)

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 6, H, W) -> the deepest features and the skips: the first convolution's output, then two per level."""
        x = self.first(x)
        skips = [x]
        for level in self.levels:
            x = level["block1"](x, time)
            skips.append(x)
            x = level["attention"](level["block2"](x, time))
            skips.append(x)
            x = level["down"](x)
        return x, skips


def _see_the_noise(first: nn.Conv2d) -> None:
    """Start the first three filters as NOISE_GAIN (x_t - x_in), colour by colour.

    x_t - x_in holds the noise, at the paper's sum_scale ten times weaker than the images themselves. With random
    filters the decoder needs hundreds of steps to find it: at width 16 and T = 1000, the L1 of the noise in steps
    50 to 75 was 0.60 with this start and 0.79 without. Loaded weights replace it.
    """
    with torch.no_grad():
        first.weight[:3] = 0
        first.bias[:3] = 0
        for colour in range(3):
            first.weight[colour, colour, 3, 3] = NOISE_GAIN
            first.weight[colour, colour + 3, 3, 3] = -NOISE_GAIN


class Middle(nn.Module):
    """Block, full attention, block at the deepest size."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.block1 = ResnetBlock(width, width, time_width)
        self.attention = Attention(width)
        self.block2 = ResnetBlock(width, width, time_width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return self.block2(self.attention(self.block1(x, time)), time)


class DecoderLevel(nn.Module):
    """[x, skip, texture] -> block, [x, skip] -> block, linear attention, up (the last: conv3x3).

    Without a texture width the level takes none. With `guided`, both blocks are GuidedBlocks (2Net).
    """

    def __init__(self, width: int, width_above: int | None, texture_width: int | None, time_width: int, guided: bool):
        super().__init__()
        self.texture_width = texture_width or 0
        self.guided = guided and texture_width is not None
        if self.guided:
            self.block1 = GuidedBlock(2 * width, width, texture_width, time_width)
            self.block2 = GuidedBlock(2 * width, width, texture_width, time_width)
        else:
            self.block1 = ResnetBlock(2 * width + self.texture_width, width, time_width)
            self.block2 = ResnetBlock(2 * width, width, time_width)
        self.attention = LinearAttention(width)
        last = nn.Conv2d(width, width, 3, padding=1)
        self.up = last if width_above is None else upsample(width, width_above)

    def forward(self, x: Tensor, skips: list[Tensor], texture: Tensor | None, time: Tensor) -> Tensor:
        """(N, C, h, w), two skips (the last is used first), texture (N, C_texture, h, w) -> (N, C above, 2h, 2w)."""
        if self.guided:
            x = self.block1(torch.cat([x, skips[1]], dim=1), texture, time)
            x = self.block2(torch.cat([x, skips[0]], dim=1), texture, time)
        else:
            inputs = [x, skips[1]] if texture is None else [x, skips[1], texture]
            x = self.block1(torch.cat(inputs, dim=1), time)
            x = self.block2(torch.cat([x, skips[0]], dim=1), time)
        return self.up(self.attention(x))


class Decoder(nn.Module):
    """Levels from the deepest up, then [x, first convolution's output] -> block -> conv1x1."""

    def __init__(
        self, widths: Sequence[int], texture_widths: Sequence[int], time_width: int, channels: int, guided: bool
    ):
        super().__init__()
        self.levels = nn.ModuleList()  # full resolution first, like `widths`; run from the deepest
        for number, width in enumerate(widths):
            texture_width = texture_widths[number] if number < TEXTURE_LEVELS else None
            self.levels.append(
                DecoderLevel(width, widths[number - 1] if number else None, texture_width, time_width, guided)
            )
        self.final = ResnetBlock(2 * widths[0], widths[0], time_width)
        self.head = quiet(nn.Conv2d(widths[0], channels, 1))

    def forward(self, x: Tensor, skips: list[Tensor], textures: Sequence[Tensor], time: Tensor) -> Tensor:
        """Deepest features, skips of the Encoder, textures [full, half, quarter] -> (N, channels, H, W)."""
        for number in range(len(self.levels) - 1, -1, -1):
            texture = textures[number] if number < TEXTURE_LEVELS else None
            x = self.levels[number](x, skips[2 * number + 1 : 2 * number + 3], texture, time)
        return self.head(self.final(torch.cat([x, skips[0]], dim=1), time))
