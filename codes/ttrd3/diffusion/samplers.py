"""The deterministic-to-ancestral sampler of RDDM (arXiv:2308.13712); knows nothing of networks."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ttrd3.diffusion.objectives import Prediction
from ttrd3.diffusion.process import DiffusionProcess


def sample(
    predict: Callable[[Tensor, Tensor], Prediction],
    process: DiffusionProcess,
    x: Tensor,
    steps: int,
    eta: float = 0.0,
    fresh_noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """x_T -> x_0 in `steps` of the T steps.

    x_s = x_t - (abar_t - abar_s) res - (bbar_t - sqrt(beta2bar_s - sigma2)) noise + sqrt(sigma2) fresh, with
    sigma2 = eta (beta2bar_t - beta2bar_s) beta2bar_s / beta2bar_t. eta 0 is deterministic; `steps` = T with eta 1 is
    full ancestral sampling: mean and variance are then those of `process.posterior`.

    Args:
        predict: (x_t (N, 3, H, W), t (N,)) -> residual, noise, x_0, clamped as the objective says.
        process: Coefficients.
        x: Start, x_in + sqrt(s) noise, (N, 3, H, W).
        steps: K, 1 to T.
        eta: 0 to 1.
        fresh_noise: Gives standard normal noise like `x` once a step but the last; needed for eta > 0.

    Returns:
        x_0, (N, 3, H, W) in [-1, 1].

    Raises:
        ValueError: eta out of range, eta > 0 without `fresh_noise`, or `steps` out of range.
    """
    if not 0 <= eta <= 1 or (eta > 0 and fresh_noise is None):
        raise ValueError(f"eta is {eta}, expected 0 to 1, and a source of fresh noise above 0")
    for now, then in pairwise(process.times(steps)):  # T-1, ..., -1
        t = torch.full((len(x),), now, device=x.device)
        residual, noise, x0 = predict(x, t)
        if then < 0:
            return x0
        b2_now, b2_then = process.beta2bar[now], process.beta2bar[then]
        sigma2 = eta * (b2_now - b2_then) * b2_then / b2_now
        x = x - (process.abar[now] - process.abar[then]) * residual
        x = x - (process.bbar[now] - (b2_then - sigma2).sqrt()) * noise
        if eta > 0:
            x = x + sigma2.sqrt() * fresh_noise()
    raise AssertionError("the last time is always -1")
