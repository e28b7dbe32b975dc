"""`prepare`: a trained model -> the same model for sampling."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from ttrd3.networks.fast.convolutions import frozen
from ttrd3.networks.fast.encoder import fast_encoder
from ttrd3.networks.fast.small import FastSmallUNet
from ttrd3.networks.fast.unet import FastUNet
from ttrd3.networks.model import TTRD3
from ttrd3.networks.small import SmallUNet
from ttrd3.networks.variants import Denoise


class FastModel(TTRD3):
    """TTRD3 for sampling only: `encode`, `encode_reference`, `textures` and `begin` of a frozen copy of the weights.

    The results are those of the plain model: in float32 up to rounding, in bfloat16 nearly.
    """

    def begin(
        self, x_in: Tensor, textures: Sequence[Tensor] | None, times: Sequence[int], fidelity: float | Tensor = 0.0
    ) -> Denoise:
        """As TTRD3, and computes what depends only on x_in, the textures, the times and the fidelity."""
        self._check_size(x_in, "LR image, enlarged")
        return self.unet.begin(x_in, textures, times, fidelity)

    def denoise(self, *_: object) -> NoReturn:
        """Not here: a single step would compute anew what `begin` computes once."""
        raise TypeError("a FastModel samples only: call `begin`, or use the model that it was prepared from")

    forward = denoise  # which would encode, then denoise: a training step


def prepare(model: TTRD3, dtype: torch.dtype = torch.float32) -> FastModel:
    """A fast copy of `model` as it is now, on its device, which it must stay on.

    Args:
        model: A plain model; it is not changed, and what it learns later does not reach the copy.
        dtype: In which the UNet computes, float32 or bfloat16. Its first and last convolution, the encoder and STTG
            are float32 always.
    """
    unet = (FastSmallUNet if isinstance(model.unet, SmallUNet) else FastUNet)(model.unet, dtype)
    return FastModel(fast_encoder(model.encoder), frozen(model.transfer), unet)
