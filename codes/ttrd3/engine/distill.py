"""A teacher's many sampling steps as the target of few: its deterministic sampler (eta 0) is a function of the noise.

After SinSR (arXiv:2311.14760), with its consistency to the truth: what the student gives from the start noise is held
to what the teacher samples from the same noise (loss `distilled`) and, by the other terms, to HR.
"""

import torch
from torch import Tensor

from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.engine.options import DiffusionOptions, DistillOptions
from ttrd3.errors import ConfigError
from ttrd3.hardware import bfloat16_pays
from ttrd3.inference.restore import sampled_image
from ttrd3.inference.trained import read_trained
from ttrd3.networks.fast import prepare
from ttrd3.paths import input_path


class Teacher:
    """Trained weights and their sampler, frozen."""

    def __init__(self, distill: DistillOptions, diffusion: DiffusionOptions, device: torch.device):
        """Read the weights.

        Raises:
            CheckpointError: The file is missing, damaged or foreign.
            ConfigError: It was trained for another process.
        """
        path = input_path(distill.teacher)
        trained = read_trained(path)
        process, ours = trained.process, DiffusionProcess(**diffusion.model_dump(exclude={"objective"}))
        same = len(process.bbar) == len(ours.bbar) and torch.equal(process.bbar, ours.bbar)
        if not (same and torch.equal(process.abar, ours.abar)):
            raise ConfigError(
                f"distill.teacher: {path} was trained with other schedules or another number of timesteps than "
                "`diffusion:` says. Give the student the teacher's `diffusion:` section."
            )
        self.steps = distill.teacher_steps
        self.process, self.objective = process.to(device), trained.objective
        dtype = torch.bfloat16 if bfloat16_pays(device) else torch.float32
        self.model = prepare(trained.model.to(device), dtype)

    @torch.no_grad()
    def __call__(
        self,
        up: Tensor,
        reference: Tensor,
        degraded: Tensor,
        has_reference: Tensor,
        noise: Tensor,
        t: Tensor,
        fidelity: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sample from x_in + sqrt(s) noise.

        Args:
            up: (N, 3, H, W) in [0, 1]; `reference`, `degraded` and `has_reference` as for `TTRD3.encode`.
            noise: Standard normal, like `up`.
            t: (N,), times among those of the sampler.
            fidelity: (N,), what a student is told, and then a teacher that can be told it; None: 0.

        Returns:
            x_t on the sampler's way, at each image's own time, and the x_0 that it arrives at; in [-1, 1].
        """
        x_in = 2 * up - 1
        textures = self.model.encode(up, reference, degraded, has_reference)
        times = self.process.times(self.steps)[:-1]
        denoise = self.model.begin(x_in, textures, times, 0.0 if fidelity is None else fidelity)
        on_the_way = torch.empty_like(x_in)

        def watched(x: Tensor, number: int) -> tuple[Tensor, ...]:
            here = t == times[number]
            on_the_way[here] = x[here]
            return denoise(x, number)

        x0 = sampled_image(watched, self.process, self.objective, x_in, lambda: noise, self.steps)
        return on_the_way, x0
