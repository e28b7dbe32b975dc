"""The denoiser of TTRD3-S for sampling: once an image `begin`, then a call for each step."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ttrd3.networks.fast.blocks import Step
from ttrd3.networks.fast.convolutions import FastConv, frozen
from ttrd3.networks.small import QUARTER, NoiseBranch, SmallUNet, TimedBlocks, fold
from ttrd3.networks.unet import NOISE_GAIN
from ttrd3.networks.variants import Denoise, of_each


class FastBlocks:
    """TimedBlocks; the time embedding of each step is a scale and a shift of the channels."""

    def __init__(self, blocks: TimedBlocks, dtype: torch.dtype):
        self.time, self.dtype = blocks.time, dtype
        self.blocks = [(FastConv(block.conv1, dtype), FastConv(block.conv2, dtype)) for block in blocks.blocks]

    def begin(self, times: Tensor) -> Step:
        """Time embeddings of the K steps, (K, time width), or (K, N, time width) of each image's own -> the steps."""
        scale, shift = self.time(times)[..., None, None].to(self.dtype).chunk(2, dim=-3)  # (K, C, 1, 1) or (K, N, ...)
        scale = scale + 1

        def step(x: Tensor, number: int) -> Tensor:
            x = torch.addcmul(shift[number], x, scale[number])
            for conv1, conv2 in self.blocks:
                x = conv2(F.silu(conv1(x), inplace=True)).add_(x)
            return x

        return step


class FastNoiseBranch:
    """NoiseBranch, its weights copied as they are now."""

    def __init__(self, branch: NoiseBranch, dtype: torch.dtype):
        self.dtype = dtype
        self.first = FastConv(branch.first, dtype)
        self.blocks = FastBlocks(branch.blocks, dtype)
        self.head = FastConv(branch.head, torch.float32)
        self.fidelity = branch.fidelity

    def begin(self, embeddings: Tensor, fidelity: Tensor) -> Callable[[Tensor, Tensor, int], Tensor]:
        """Start K steps.

        Args:
            embeddings: (K, time width), of the times.
            fidelity: (1,) or (N,), for a branch that is told it.

        Returns:
            A function of features (N, C, h, w), folded noise (N, 48, h, w) and the number of the step: noise output.
        """
        told = self.fidelity is not None
        blocks = self.blocks.begin(embeddings[:, None] + self.fidelity(fidelity) if told else embeddings)
        share = (1 - fidelity)[:, None, None, None]

        def step(x: Tensor, noise: Tensor, number: int) -> Tensor:
            x = self.head(blocks(self.first(noise.to(self.dtype)).add_(x), number).float())
            return (x.mul_(share) if told else x).add_(noise)

        return step


class FastSmallUNet:
    """SmallUNet, its weights copied as they are now. Heads stay float32: what they give is the image."""

    def __init__(self, unet: SmallUNet, dtype: torch.dtype):
        self.size_multiple, self.outputs, self.dtype = unet.size_multiple, unet.outputs, dtype
        self.told_fidelity = unet.told_fidelity
        self.plain: SmallUNet = frozen(unet).float()
        # x_in is the same at every step, so it must be the last half of the channels, as FastConv wants them.
        self.first = FastConv(self.plain.first, dtype, constant=unet.first.in_channels // 2)
        self.downs = [FastConv(conv, dtype) for conv in self.plain.downs]
        self.ups = [FastConv(conv, dtype) for conv in self.plain.ups]
        self.merges = [FastConv(conv, dtype) for conv in self.plain.merges]
        self.head = FastConv(self.plain.head, torch.float32)
        self.down_blocks = [FastBlocks(blocks, dtype) for blocks in self.plain.down_blocks]
        self.up_blocks = [FastBlocks(blocks, dtype) for blocks in self.plain.up_blocks]
        self.residual = None if self.plain.residual is None else FastBlocks(self.plain.residual, dtype)
        self.noise = None if self.plain.noise is None else FastNoiseBranch(self.plain.noise, dtype)

    def begin(
        self, x_in: Tensor, textures: Sequence[Tensor] | None, times: Sequence[int], fidelity: float | Tensor = 0.0
    ) -> Denoise:
        """As `UNet.begin`; without textures what they would contribute is not computed."""
        embeddings = self.plain.time(torch.tensor(times, device=x_in.device))
        down_blocks, up_blocks = ([b.begin(embeddings) for b in side] for side in (self.down_blocks, self.up_blocks))
        residual_blocks = None if self.residual is None else self.residual.begin(embeddings)
        noise_branch = None if self.noise is None else self.noise.begin(embeddings, of_each(fidelity, x_in))
        first = self.first.begin(_layout(fold(x_in, QUARTER)))
        textured = None if textures is None else self.plain.texture_features(textures).to(self.dtype)

        def denoise(x_t: Tensor, number: int) -> tuple[Tensor, ...]:
            noise = _layout(fold(NOISE_GAIN * (x_t - x_in), QUARTER))
            x = first(noise.to(self.dtype))
            skips = []
            for blocks, down in zip(down_blocks[:-1], self.downs, strict=True):
                x = blocks(x, number)
                skips.append(x)
                x = down(x)
            x = down_blocks[-1](x, number)
            for level in reversed(range(len(skips))):
                x = F.pixel_shuffle(self.ups[level](x), 2)
                x = self.merges[level](torch.cat([x, skips[level]], dim=1))
                if level == 0 and textured is not None:
                    x = x.add_(textured)
                x = up_blocks[level](x, number)
            own = x if residual_blocks is None else residual_blocks(x, number)
            images = F.pixel_shuffle(self.head(own.float()), QUARTER)
            if noise_branch is None:
                return images.chunk(self.outputs, dim=1)
            return images, F.pixel_shuffle(noise_branch(x, noise, number), QUARTER)

        return denoise


def _layout(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
