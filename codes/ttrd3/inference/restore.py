"""LR images -> restored images: encode the reference once, then sample."""

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttrd3.diffusion.objectives import Objective, Prediction
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.diffusion.samplers import sample
from ttrd3.inference.precision import PrecisionName, of_networks
from ttrd3.inference.symmetries import symmetries, turned, turned_back
from ttrd3.networks.model import TTRD3
from ttrd3.networks.sttg import ReferenceFeatures
from ttrd3.networks.variants import Denoise

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
        precision: Of the networks.
        fidelity: F, 0 to 1. The result is (1 - F) x_0 + F (x_in - residual): x_0 is the sampler's image, the residual
            is the one predicted at the first step, where x_T knows nothing of x_0, so that x_in - residual estimates
            the mean of all images that fit. Lines between these two ends trade distortion for realism best
            (Freirich et al., arXiv:2107.02555). 0 samples as trained, 1 takes the residual alone, no noise. Networks
            that are told F (`told_fidelity`) give an image of their own for each F instead of that line, with the same
            ends: in one step 1 is the residual alone.
        ensemble: Whether images are the mean of eight results, one for each orientation of LR, reference and noise.
    """

    model: TTRD3
    process: DiffusionProcess
    objective: Objective
    steps: int
    strength: float
    eta: float
    seed: int

    precision: PrecisionName = "float32"
    fidelity: float = 0.0
    ensemble: bool = False

    def __call__(
        self,
        up: Tensor,
        reference: Tensor | None,
        degraded: Tensor | None,
        has_reference: Tensor | None,
        names: Sequence[str],
    ) -> Tensor:
        """Restore with noise that follows from the seed and each image's name.

        Args:
            up: (N, 3, H, W) in [0, 1], LR enlarged by bicubic.
            reference: (N, 3, H', W') in [0, 1], or None.
            degraded: The reference reduced to 1/4 and enlarged again.
            has_reference: (N,) bool.
            names: One for each image.

        Returns:
            (N, 3, H, W) in [0, 1].
        """

        def oriented(symmetry: int) -> Tensor:
            sources = [np.random.default_rng([self.seed, _SAMPLING, zlib.crc32(name.encode())]) for name in names]

            def noise() -> Tensor:
                drawn = [source.standard_normal(up.shape[1:], dtype=np.float32) for source in sources]
                return turned(torch.from_numpy(np.stack(drawn)).to(up), symmetry)

            images = [None if image is None else turned(image, symmetry) for image in (up, reference, degraded)]
            return turned_back(self.sampled(images[0], self.textures(*images, has_reference), noise), symmetry)

        return torch.stack([oriented(symmetry) for symmetry in symmetries(self.ensemble)]).mean(0)

    @torch.inference_mode()
    def textures(
        self, up: Tensor, reference: Tensor | None, degraded: Tensor | None, has_reference: Tensor | None
    ) -> list[Tensor] | None:
        """What the reference adds, already times `strength`: the same for every step and every sample."""
        if reference is None or self.strength == 0:
            return None
        with of_networks(self.precision, up.device):
            return [self.strength * t for t in self.model.encode(up, reference, degraded, has_reference)]

    @torch.inference_mode()
    def encoded(self, reference: Tensor, degraded: Tensor) -> ReferenceFeatures:
        """What `transferred` needs of references (R, 3, H', W') in [0, 1] and of the same degraded."""
        with of_networks(self.precision, reference.device):
            return self.model.encode_reference(reference, degraded)

    @torch.inference_mode()
    def transferred(self, up: Tensor, references: ReferenceFeatures) -> list[Tensor]:
        """`textures` from the features of N references, one for each of `up`, (N, 3, H, W) in [0, 1]."""
        with of_networks(self.precision, up.device):
            return [self.strength * t for t in self.model.textures(up, references, shared=False)]

    @torch.inference_mode()
    def sampled(self, up: Tensor, textures: list[Tensor] | None, noise: Callable[[], Tensor]) -> Tensor:
        """One sample: (N, 3, H, W) in [0, 1].

        Args:
            up: (N, 3, H, W) in [0, 1].
            textures: Of `textures`; None: no reference.
            noise: Gives standard normal noise like `up`: at the start, and with eta > 0 once a step but the last.
        """
        x_in = 2 * up - 1
        with of_networks(self.precision, up.device):  # what all steps share is computed once
            denoise = self.model.begin(x_in, textures, self.process.times(self.steps)[:-1], self.fidelity)

        def precise(x: Tensor, number: int) -> tuple[Tensor, ...]:
            with of_networks(self.precision, x.device):
                return denoise(x, number)

        line = self.model.left_to_sampler(self.fidelity)
        x0 = sampled_image(precise, self.process, self.objective, x_in, noise, self.steps, self.eta, line)
        return (x0 + 1) / 2


def sampled_image(
    denoise: Denoise,
    process: DiffusionProcess,
    objective: Objective,
    x_in: Tensor,
    noise: Callable[[], Tensor],
    steps: int,
    eta: float = 0.0,
    fidelity: float = 0.0,
) -> Tensor:
    """x_in (N, 3, H, W) in [-1, 1] -> x_0, likewise: start, K sampling steps, and the line to the residual alone.

    Args:
        denoise: Of `TTRD3.begin` for x_in and the times of `steps`.
        process: That the networks were trained for.
        objective: What their outputs mean.
        x_in: The LR image, enlarged.
        noise: Gives standard normal noise like x_in: at the start, and with eta > 0 once a step but the last.
        steps: K.
        eta: 0 (deterministic given the start noise) to 1 (ancestral).
        fidelity: 0 to 1, see `Restorer`; of `TTRD3.left_to_sampler`.
    """
    number = itertools.count()
    first = None

    def predict(x: Tensor, t: Tensor) -> Prediction:
        nonlocal first
        whole = tuple(output.float() for output in denoise(x, next(number)))
        found = objective.convert(whole, process, x, x_in, t, clamp=True)
        first = found.residual if first is None else first
        return found

    x0 = sample(predict, process, process.start(x_in, noise()), steps, eta, noise)
    return x0.lerp((x_in - first).clamp(-1, 1), fidelity) if fidelity > 0 else x0
