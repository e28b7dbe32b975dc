"""The three denoisers of the paper: TTRD3-1Net-A, TTRD3-1Net-B and TTRD3-2Net (specification section 4).

Each maps (x_t, x_in, t, textures) to as many images as its objective has outputs: two (a, b), or one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ttrd3.networks.layers import TimeEmbedding
from ttrd3.networks.unet import Decoder, Encoder, Middle, level_widths, require_texture_scales
from ttrd3.registry import PositiveInt, Registry

UNETS = Registry("unet")

Denoise = Callable[[Tensor, int], tuple[Tensor, ...]]
"""x_t (N, 3, H, W) in [-1, 1] and the number of the sampling step, from 0 -> the outputs, (N, 3, H, W) each."""


def of_each(fidelity: float | Tensor, images: Tensor) -> Tensor:
    """One fidelity for all images, () or a number, or each's own, (N,) -> float32 (1,) or (N,) where the images are."""
    return torch.as_tensor(fidelity, dtype=torch.float32, device=images.device).reshape(-1)


class Trunk(nn.Module):
    """Time embedding, encoder and middle, which every variant has."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        time_width = 4 * widths[0]
        self.time = TimeEmbedding(widths[0])
        self.encoder = Encoder(widths, time_width)
        self.middle = Middle(widths[-1], time_width)

    def forward(self, x_t: Tensor, x_in: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """(N, 3, H, W) twice, (N,) -> deepest features, skips, time embedding."""
        time = self.time(t)
        x, skips = self.encoder(torch.cat([x_t, x_in], dim=1), time)
        return self.middle(x, time), skips, time


class UNet(nn.Module):
    """What all denoisers have in common.

    Attributes:
        size_multiple: Heights and widths must be a multiple of this.
        outputs: Images that a call gives.
        told_fidelity: Whether a call takes the fidelity, (N,) in 0..1, behind the textures.
    """

    size_multiple: int
    outputs: int
    told_fidelity: bool = False

    def begin(
        self, x_in: Tensor, textures: Sequence[Tensor], times: Sequence[int], fidelity: float | Tensor = 0.0
    ) -> Denoise:
        """Sampling of images x_in (N, 3, H, W) in [-1, 1] with K steps at `times` begins: what is the same at each."""
        told = [of_each(fidelity, x_in).expand(len(x_in))] if self.told_fidelity else []

        def denoise(x_t: Tensor, number: int) -> tuple[Tensor, ...]:
            t = torch.full((len(x_t),), times[number], device=x_t.device)
            return self(x_t, x_in, t, textures, *told)

        return denoise


class PaperUNet(UNet, ABC):
    """What the paper's three variants have in common."""

    @abstractmethod
    def parts(self) -> list[tuple[Trunk, list[Decoder]]]:
        """The trunks, each with the decoders that follow it; their outputs, in this order, are the network's."""


@UNETS.register("1Net-A")
class OneNetA(PaperUNet):
    """One UNet whose head gives all outputs.

    Options:
        width: Channels at full resolution.
        multipliers: Channels of each level relative to `width`, full resolution first.
    """

    def __init__(
        self,
        width: PositiveInt = 64,
        multipliers: Sequence[PositiveInt] = (1, 2, 4, 8),
        *,
        outputs: int,
        texture_widths: Sequence[int],
        texture_scales: Sequence[int],
    ):
        super().__init__()
        require_texture_scales(texture_scales)
        widths = level_widths(width, multipliers)
        self.size_multiple = 2 ** (len(widths) - 1)  # every level but the first halves the size
        self.outputs = outputs
        self.trunk = Trunk(widths)
        self.decoder = Decoder(widths, texture_widths, 4 * width, 3 * outputs, guided=False)

    def parts(self) -> list[tuple[Trunk, list[Decoder]]]:
        """One trunk, one decoder for all outputs."""
        return [(self.trunk, [self.decoder])]

    def forward(self, x_t: Tensor, x_in: Tensor, t: Tensor, textures: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(N, 3, H, W) in [-1, 1] twice, (N,), textures [full, half, quarter] -> one or two (N, 3, H, W)."""
        x, skips, time = self.trunk(x_t, x_in, t)
        return self.decoder(x, skips, textures, time).chunk(self.outputs, dim=1)


@UNETS.register("1Net-B")
class OneNetB(PaperUNet):
    """One encoder and middle, a decoder with its own head for each output.

    Options:
        width: Channels at full resolution.
        multipliers: Channels of each level relative to `width`, full resolution first.
    """

    def __init__(
        self,
        width: PositiveInt = 64,
        multipliers: Sequence[PositiveInt] = (1, 2, 4, 8),
        *,
        outputs: int,
        texture_widths: Sequence[int],
        texture_scales: Sequence[int],
    ):
        super().__init__()
        require_texture_scales(texture_scales)
        widths = level_widths(width, multipliers)
        self.size_multiple = 2 ** (len(widths) - 1)  # every level but the first halves the size
        self.outputs = outputs
        self.trunk = Trunk(widths)
        self.decoders = nn.ModuleList(
            Decoder(widths, texture_widths, 4 * width, 3, guided=False) for _ in range(outputs)
        )

    def parts(self) -> list[tuple[Trunk, list[Decoder]]]:
        """One trunk, a decoder for each output."""
        return [(self.trunk, list(self.decoders))]

    def forward(self, x_t: Tensor, x_in: Tensor, t: Tensor, textures: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(N, 3, H, W) in [-1, 1] twice, (N,), textures [full, half, quarter] -> one or two (N, 3, H, W)."""
        x, skips, time = self.trunk(x_t, x_in, t)
        return tuple(decoder(x, skips, textures, time) for decoder in self.decoders)


@UNETS.register("2Net")
class TwoNet(PaperUNet):
    """A UNet of its own for each output, with GuidedBlocks where textures enter.

    Options:
        width: Channels at full resolution.
        multipliers: Channels of each level relative to `width`, full resolution first.
    """

    def __init__(
        self,
        width: PositiveInt = 64,
        multipliers: Sequence[PositiveInt] = (1, 2, 4, 8),
        *,
        outputs: int,
        texture_widths: Sequence[int],
        texture_scales: Sequence[int],
    ):
        super().__init__()
        require_texture_scales(texture_scales)
        widths = level_widths(width, multipliers)
        self.size_multiple = 2 ** (len(widths) - 1)  # every level but the first halves the size
        self.outputs = outputs
        self.trunks = nn.ModuleList(Trunk(widths) for _ in range(outputs))
        self.decoders = nn.ModuleList(
            Decoder(widths, texture_widths, 4 * width, 3, guided=True) for _ in range(outputs)
        )

    def parts(self) -> list[tuple[Trunk, list[Decoder]]]:
        """A trunk and a decoder for each output."""
        return [(trunk, [decoder]) for trunk, decoder in zip(self.trunks, self.decoders, strict=True)]

    def forward(self, x_t: Tensor, x_in: Tensor, t: Tensor, textures: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """(N, 3, H, W) in [-1, 1] twice, (N,), textures [full, half, quarter] -> one or two (N, 3, H, W)."""
        outputs = []
        for trunk, decoder in zip(self.trunks, self.decoders, strict=True):
            x, skips, time = trunk(x_t, x_in, t)
            outputs.append(decoder(x, skips, textures, time))
        return tuple(outputs)
