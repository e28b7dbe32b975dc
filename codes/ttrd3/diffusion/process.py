"""The dual diffusion process of RDDM (arXiv:2308.13712) that TTRD3 uses: residual and noise, forward and backward.

Notation: x_0 is the HR image, x_in the LR image enlarged by bicubic, I_res = x_in - x_0, eps ~ N(0, 1); all images are
(N, 3, H, W) in [-1, 1]; t is (N,) int64 in 0..T-1. `abar` = cumsum(alpha), `bbar` = sqrt(cumsum(beta2)).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ttrd3.diffusion.schedules import ScheduleName, schedule


class DiffusionProcess(nn.Module):
    """Coefficients of the process and the formulas that use them.

    Options:
        timesteps: Number T of diffusion steps that training draws from.
        alpha_schedule: How the residual is spread over the steps (decreasing, increasing, average).
        beta_schedule: How the noise variance is spread over the steps (decreasing, increasing, average).
        sum_scale: Total noise variance s; sampling starts from x_in + sqrt(s) * noise.
    """

    # Registered as buffers, float32 (T,), never saved: they follow from the options.
    alpha: Tensor
    abar: Tensor
    one_minus_abar: Tensor
    beta2: Tensor
    beta: Tensor
    beta2bar: Tensor
    bbar: Tensor
    posterior_c1: Tensor
    posterior_c2: Tensor
    posterior_c3: Tensor
    posterior_variance: Tensor
    posterior_log_variance: Tensor

    def __init__(
        self,
        timesteps: Annotated[int, Field(ge=1)] = 1000,
        alpha_schedule: ScheduleName = "decreasing",
        beta_schedule: ScheduleName = "increasing",
        sum_scale: Annotated[float, Field(gt=0)] = 0.01,
    ):
        super().__init__()
        self.timesteps = timesteps
        self.sum_scale = sum_scale
        alpha = schedule(alpha_schedule, timesteps)
        beta2 = schedule(beta_schedule, timesteps, sum_scale)
        abar, beta2bar = alpha.cumsum(0).clamp(0, 1), beta2.cumsum(0)
        zero = alpha.new_zeros(1)
        abar_before, beta2bar_before = torch.cat([zero, abar[:-1]]), torch.cat([zero, beta2bar[:-1]])
        c1 = beta2bar_before / beta2bar
        variance = beta2 * beta2bar_before / beta2bar
        buffers = {
            "alpha": alpha,
            "abar": abar,
            # At T-1 nothing of x_0 is left: 1e-6 keeps the objective `pred_noise` finite there.
            "one_minus_abar": torch.cat([1 - abar[:-1], alpha.new_tensor([1e-6])]),
            "beta2": beta2,
            "beta": beta2.sqrt(),
            "beta2bar": beta2bar,
            "bbar": beta2bar.sqrt(),
            "posterior_c1": c1,
            "posterior_c2": beta2 * abar_before / beta2bar - c1 * alpha,
            "posterior_c3": beta2 / beta2bar,
            "posterior_variance": variance,
            "posterior_log_variance": variance.clamp(min=1e-20).log(),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.float(), persistent=False)

    def diffuse(self, x0: Tensor, residual: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = x_0 + abar[t] I_res + bbar[t] eps."""
        return x0 + at(self.abar, t) * residual + at(self.bbar, t) * noise

    def start(self, x_in: Tensor, noise: Tensor) -> Tensor:
        """x_T = x_in + sqrt(s) eps, where sampling starts."""
        return x_in + self.sum_scale**0.5 * noise

    def x0_from(self, x_t: Tensor, residual: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_0 = x_t - abar[t] I_res - bbar[t] eps."""
        return x_t - at(self.abar, t) * residual - at(self.bbar, t) * noise

    def posterior_mean(self, x_t: Tensor, residual: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Mean of x_{t-1} given x_t, residual and noise: x_t - alpha[t] I_res - beta2[t] / bbar[t] eps."""
        return x_t - at(self.alpha, t) * residual - at(self.beta2 / self.bbar, t) * noise

    def posterior(self, x_t: Tensor, residual: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (N, 3, H, W), variance and clipped log variance (N, 1, 1, 1) of x_{t-1} given x_t, residual and x_0."""
        mean = at(self.posterior_c1, t) * x_t + at(self.posterior_c2, t) * residual + at(self.posterior_c3, t) * x0
        return mean, at(self.posterior_variance, t), at(self.posterior_log_variance, t)

    def times(self, steps: int) -> list[int]:
        """The K + 1 times of K-step sampling, T-1 first, -1 (the image itself) last.

        linspace(-1, T-1, K+1) truncated to integers, in exact arithmetic: floating point puts some values of, say,
        K = 300 just below the integer that they are.

        Raises:
            ValueError: `steps` is not in 1..T.
        """
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"sampling in {steps} steps, expected 1 to {self.timesteps} (timesteps)")
        return [step * self.timesteps // steps - 1 for step in range(steps, -1, -1)]


def at(coefficients: Tensor, t: Tensor) -> Tensor:
    """(T,) coefficients at times (N,) -> (N, 1, 1, 1)."""
    return coefficients[t].view(-1, 1, 1, 1)
