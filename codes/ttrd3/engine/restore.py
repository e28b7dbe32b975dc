"""LR images -> restored images: encode the reference once, then sample."""

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttrd3.diffusion.objectives import Objective, Prediction
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.diffusion.samplers import sample
from ttrd3.networks.model import TTRD3

_SAMPLING = 5  # keeps sampling noise independent of other draws of the same seed


@dataclass
class Restorer:
    """A model with the process it was trained for and the way to sample it.

    Attributes:
        model: The plain one, or the fast copy of it (networks/fast), which is meant for this.
        steps: Sampling steps K.
        strength: Factor of the textures: 0 ignores the reference, 1 takes it as trained.
        eta: 0 (deterministic given the start noise) to 1 (ancestral).
        seed: Of the noise; together with the image's name it decides it, so that the batch does not.
    """

    model: TTRD3
    process: DiffusionProcess
    objective: Objective
    steps: int
    strength: float
    eta: float
    seed: int

    @torch.inference_mode()
    def __call__(
        self,
        up: Tensor,
        reference: Tensor | None,
        degraded: Tensor | None,
        has_reference: Tensor | None,
        names: Sequence[str],
    ) -> Tensor:
        """Restore.

        Args:
            up: (N, 3, H, W) in [0, 1], LR enlarged by bicubic.
            reference: (N, 3, H', W') in [0, 1], or None.
            degraded: The reference reduced to 1/4 and enlarged again.
            has_reference: (N,) bool.
            names: One for each image.

        Returns:
            (N, 3, H, W) in [0, 1].
        """
        x_in = 2 * up - 1
        if self.strength == 0:
            reference = None
        textures = None
        if reference is not None:
            textures = [self.strength * t for t in self.model.encode(up, reference, degraded, has_reference)]
        denoise = self.model.begin(x_in, textures, self.process.times(self.steps)[:-1])
        number = itertools.count()
        sources = [np.random.default_rng([self.seed, _SAMPLING, zlib.crc32(name.encode())]) for name in names]

        def noise() -> Tensor:
            drawn = [source.standard_normal(up.shape[1:], dtype=np.float32) for source in sources]
            return torch.from_numpy(np.stack(drawn)).to(up)

        def predict(x: Tensor, t: Tensor) -> Prediction:
            return self.objective.convert(denoise(x, next(number)), self.process, x, x_in, t, clamp=True)

        start = self.process.start(x_in, noise())
        return (sample(predict, self.process, start, self.steps, self.eta, noise) + 1) / 2
