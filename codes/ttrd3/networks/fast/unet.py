"""The denoising UNets for sampling: once an image `begin`, then a call for each step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ttrd3.networks.fast.attention import FastAttention, FastLinearAttention
from ttrd3.networks.fast.blocks import FastResnetBlock
from ttrd3.networks.fast.convolutions import FastConv, FastUpsample, frozen
from ttrd3.networks.unet import TEXTURE_LEVELS, Decoder, DecoderLevel
from ttrd3.networks.variants import Denoise, Trunk

RunTrunk = Callable[[Tensor, int], tuple[Tensor, list[Tensor]]]
RunDecoder = Callable[[Tensor, list[Tensor], int], Tensor]


class FastTrunk:
    """Trunk. The first convolution stays float32: it sees the noise as a small difference of x_t and x_in."""

    def __init__(self, trunk: Trunk, dtype: torch.dtype):
        encoder, middle = trunk.encoder, trunk.middle
        self.dtype = dtype
        self.first = FastConv(encoder.first, torch.float32, constant=3)
        self.levels = [
            (
                FastResnetBlock(level["block1"], dtype),
                FastResnetBlock(level["block2"], dtype),
                FastLinearAttention(level["attention"], dtype),
                FastConv(level["down"], dtype),
            )
            for level in encoder.levels
        ]
        self.middle1, self.middle2 = FastResnetBlock(middle.block1, dtype), FastResnetBlock(middle.block2, dtype)
        self.attention = FastAttention(middle.attention, dtype)

    def begin(self, x_in: Tensor, times: Tensor) -> RunTrunk:
        """(N, 3, H, W), time embeddings (K, time width) -> the trunk of x_t at each step."""
        first = self.first.begin(x_in)
        levels = [(a.begin(times), b.begin(times), attention, down) for a, b, attention, down in self.levels]
        middle1, middle2 = self.middle1.begin(times), self.middle2.begin(times)

        def run(x_t: Tensor, number: int) -> tuple[Tensor, list[Tensor]]:
            x = first(x_t.contiguous(memory_format=torch.channels_last)).to(self.dtype)
            skips = [x]
            for block1, block2, attention, down in levels:
                x = block1(x, number)
                skips.append(x)
                x = attention(block2(x, number))
                skips.append(x)
                x = down(x)
            return middle2(self.attention(middle1(x, number)), number), skips

        return run


class FastLevel:
    """DecoderLevel."""

    def __init__(self, level: DecoderLevel, dtype: torch.dtype):
        self.block1 = FastResnetBlock(level.block1, dtype, level.texture_width)
        self.block2 = FastResnetBlock(level.block2, dtype, level.texture_width if level.guided else 0)
        self.guided = level.guided
        self.attention = FastLinearAttention(level.attention, dtype)
        self.up = (FastUpsample if isinstance(level.up, nn.Sequential) else FastConv)(level.up, dtype)

    def begin(self, texture: Tensor | None, times: Tensor) -> RunDecoder:
        """Texture (N, C, h, w) or None for zeros, time embeddings (K, time width) -> the level at each step."""
        block1 = self.block1.begin(times, texture)
        block2 = self.block2.begin(times, texture if self.guided else None)

        def run(x: Tensor, skips: list[Tensor], number: int) -> Tensor:
            x = block1(torch.cat([x, skips[1]], dim=1), number)
            x = block2(torch.cat([x, skips[0]], dim=1), number)
            return self.up(self.attention(x))

        return run


class FastDecoder:
    """Decoder. The head stays float32: what it gives is the image."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype):
        self.levels = [FastLevel(level, dtype) for level in decoder.levels]
        self.final = FastResnetBlock(decoder.final, dtype)
        self.head = FastConv(decoder.head, torch.float32)

    def begin(self, textures: Sequence[Tensor | None], times: Tensor) -> RunDecoder:
        """Textures [full, half, quarter], time embeddings (K, time width) -> the decoder at each step."""
        textures = [*textures, *[None] * (len(self.levels) - TEXTURE_LEVELS)]
        levels = [level.begin(texture, times) for level, texture in zip(self.levels, textures, strict=True)]
        final = self.final.begin(times)

        def run(x: Tensor, skips: list[Tensor], number: int) -> Tensor:
            for depth in range(len(levels) - 1, -1, -1):
                x = levels[depth](x, skips[2 * depth + 1 : 2 * depth + 3], number)
            return self.head(final(torch.cat([x, skips[0]], dim=1), number).float())

        return run


class FastUNet:
    """Any of the three variants, its weights copied as they are now."""

    told_fidelity = False

    def __init__(self, unet: nn.Module, dtype: torch.dtype):
        self.size_multiple, self.outputs = unet.size_multiple, unet.outputs
        self.nets = []  # of each trunk: time embedding, trunk, the decoders that follow it
        for trunk, decoders in unet.parts():
            self.nets.append((frozen(trunk.time), FastTrunk(trunk, dtype), [FastDecoder(d, dtype) for d in decoders]))

    def begin(
        self,
        x_in: Tensor,
        textures: Sequence[Tensor] | None,
        times: Sequence[int],
        fidelity: float | Tensor = 0.0,  # noqa: ARG002 - one interface
    ) -> Denoise:
        """As `UNet.begin`; without textures what they would contribute is not computed."""
        t = torch.tensor(times, device=x_in.device)
        runs = []
        for time, trunk, decoders in self.nets:
            embeddings = time(t)
            started = [decoder.begin(textures or [None] * TEXTURE_LEVELS, embeddings) for decoder in decoders]
            runs.append((trunk.begin(x_in, embeddings), started))

        def denoise(x_t: Tensor, number: int) -> tuple[Tensor, ...]:
            images = []
            for trunk, decoders in runs:
                x, skips = trunk(x_t, number)
                images += [decoder(x, skips, number) for decoder in decoders]
            return torch.cat(images, dim=1).chunk(self.outputs, dim=1)

        return denoise
