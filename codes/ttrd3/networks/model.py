"""TTRD3 as one module: encode the reference once an image, denoise at every step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttrd3.errors import DataError
from ttrd3.networks.mfab import ENCODERS
from ttrd3.networks.sttg import TRANSFERS, ReferenceFeatures
from ttrd3.networks.variants import UNETS, Denoise
from ttrd3.registry import Section


class TTRD3(nn.Module):
    """MFAB encoder, STTG and a denoising UNet (arXiv:2504.13026): one optimiser, one EMA, one set of weights."""

    def __init__(self, encoder: nn.Module, transfer: nn.Module, unet: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.transfer = transfer
        self.unet = unet

    @classmethod
    def from_options(cls, encoder: Section | dict, transfer: Section | dict, unet: Section | dict, outputs: int):
        """Build from the `model:` section; `outputs` is how many images the objective predicts."""
        features = ENCODERS.build(encoder, "model.encoder")
        textures = TRANSFERS.build(transfer, "model.transfer", widths=features.widths, scales=features.scales)
        denoiser = UNETS.build(
            unet, "model.unet", outputs=outputs, texture_widths=features.widths, texture_scales=features.scales
        )
        return cls(features, textures, denoiser)

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be a multiple of this."""
        return math.lcm(self.unet.size_multiple, 4)  # 4: the encoder's levels

    def encode(
        self, up: Tensor, reference: Tensor | None, degraded: Tensor | None, has_reference: Tensor | None = None
    ) -> list[Tensor]:
        """Textures for `up`: zeros for an image without a reference.

        Args:
            up: (N, 3, H, W) in [0, 1], LR enlarged by bicubic.
            reference: (N, 3, H', W') in [0, 1], or (N, R, 3, H', W') for R references of each image, or None for
                none at all.
            degraded: `reference` reduced to 1/4 and enlarged again.
            has_reference: (N,) bool; where false the textures are zeros whatever `reference` holds.

        Returns:
            (N, C, H / s, W / s) for each scale s of the encoder; the paper's are 1, 2 and 4.

        Raises:
            DataError: A size that the networks cannot take.
        """
        self._check_size(up, "LR image, enlarged")
        if reference is None:
            return self._no_textures(up)
        if has_reference is not None and not torch.compiler.is_compiling() and not has_reference.all():
            return self._encode_some(up, reference, degraded, has_reference)
        if reference.dim() == 5:
            reference, degraded = reference.flatten(0, 1), degraded.flatten(0, 1)  # (N R, 3, H', W')
        if up.shape[1:] == reference.shape[1:]:  # one pass of the whole batch keeps the hardware busier than three
            sizes = [len(up), len(reference), len(degraded)]
            features = [level.split(sizes) for level in self.encoder(torch.cat([up, reference, degraded]))]
            lr, ref, ref_degraded = ([level[part] for level in features] for part in range(3))
            textures = self.transfer(lr[-1], ref_degraded[-1], ref)
        else:
            textures = self.transfer.textures(self.encoder(up)[-1], self.encode_reference(reference, degraded))
        if has_reference is not None:
            keep = has_reference.view(-1, 1, 1, 1)
            textures = [torch.where(keep, texture, 0) for texture in textures]
        return textures

    def _encode_some(self, up: Tensor, reference: Tensor, degraded: Tensor, has_reference: Tensor) -> list[Tensor]:
        """`encode` that spends no time on images without a reference."""
        textures, some = self._no_textures(up), has_reference
        if torch.is_grad_enabled() and not some.any():  # one, so that every parameter has a gradient, if only of zeros
            some = torch.arange(len(up), device=up.device) == 0
        if some.any():
            keep = has_reference[some].view(-1, 1, 1, 1)
            found = [torch.where(keep, f, 0) for f in self.encode(up[some], reference[some], degraded[some])]
            textures = [t.to(f.dtype).index_put((some,), f) for t, f in zip(textures, found, strict=True)]
        return textures

    def encode_reference(self, reference: Tensor, degraded: Tensor) -> ReferenceFeatures:
        """What `textures` needs of references: encode them once, use them for any number of LR images.

        Args:
            reference: (R, 3, H', W') in [0, 1].
            degraded: `reference` reduced to 1/4 and enlarged again.

        Raises:
            DataError: A size that the networks cannot take.
        """
        self._check_size(reference, "reference")
        return self.transfer.code(self.encoder(degraded)[-1], self.encoder(reference))

    def textures(self, up: Tensor, references: ReferenceFeatures, *, shared: bool = True) -> list[Tensor]:
        """`encode` with the features of references instead of images.

        Args:
            up: (N, 3, H, W) in [0, 1], LR enlarged by bicubic.
            references: Features of R references that all N images have; or, if not `shared`, of N R, those of one
                image together.
            shared: Which of the two.

        Raises:
            DataError: A size that the networks cannot take.
        """
        self._check_size(up, "LR image, enlarged")
        return self.transfer.textures(self.encoder(up)[-1], references, shared=shared)

    @property
    def told_fidelity(self) -> bool:
        """Whether `begin` and `forward` look at the fidelity; else it is up to the sampler."""
        return self.unet.told_fidelity

    def left_to_sampler(self, fidelity: float) -> float:
        """The share of the residual's image, 0 to 1, that the sampler is to blend in: 0 where `begin` was told it.

        But for 1, which is that image: the noise output of a network that is told 1 is true at the first step alone.
        """
        return 0.0 if self.told_fidelity and fidelity < 1 else fidelity

    def begin(
        self, x_in: Tensor, textures: Sequence[Tensor] | None, times: Sequence[int], fidelity: float | Tensor = 0.0
    ) -> Denoise:
        """Sampling of a batch begins: what does not change from step to step is taken here.

        Args:
            x_in: (N, 3, H, W) in [-1, 1].
            textures: Of `encode`, or None for images without a reference.
            times: Integer time of each of the K steps.
            fidelity: 0 to 1, of all images or of each, (N,), for networks that are told it.

        Returns:
            A function of x_t (N, 3, H, W) in [-1, 1] and the number of the step, 0..K-1: the objective's outputs.

        Raises:
            DataError: A size that the networks cannot take.
        """
        self._check_size(x_in, "LR image, enlarged")
        return self.unet.begin(x_in, textures or self._no_textures(x_in), times, fidelity)

    def denoise(
        self, x_t: Tensor, t: Tensor, x_in: Tensor, textures: Sequence[Tensor], fidelity: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """The objective's outputs for x_t and x_in, (N, 3, H, W) in [-1, 1], at integer times t and fidelity, (N,)."""
        return self.unet(x_t, x_in, t, textures, *([fidelity] if self.told_fidelity else []))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        up: Tensor,
        reference: Tensor | None = None,
        degraded: Tensor | None = None,
        has_reference: Tensor | None = None,
        fidelity: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """`encode`, then `denoise` with x_in = 2 up - 1: a training step."""
        return self.denoise(x_t, t, 2 * up - 1, self.encode(up, reference, degraded, has_reference), fidelity)

    def _no_textures(self, up: Tensor) -> list[Tensor]:
        n, _, h, w = up.shape
        return [
            up.new_zeros(n, c, h // s, w // s) for c, s in zip(self.encoder.widths, self.encoder.scales, strict=True)
        ]

    def _check_size(self, image: Tensor, what: str) -> None:
        height, width = image.shape[2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise DataError(
                f"{what}: {width} x {height} pixels, expected a width and height that are multiples of "
                f"{self.size_multiple}, because the networks halve sizes"
            )
