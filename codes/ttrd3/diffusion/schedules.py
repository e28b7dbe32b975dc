"""Schedules of the dual diffusion: how much residual and how much noise each step adds (RDDM, arXiv:2308.13712)."""

from typing import Literal, get_args

import torch
from torch import Tensor

ScheduleName = Literal["decreasing", "increasing", "average"]


def schedule(name: ScheduleName, timesteps: int, total: float = 1.0) -> Tensor:
    """The share of `total` that belongs to each time step t = 0..T-1.

    decreasing: 2 (T - t) / (T (T + 1)); increasing: 2 (t + 1) / (T (T + 1)); average: 1 / T; each times `total`.

    Returns:
        (T,) float64, positive, summing to `total`.

    Raises:
        ValueError: Unknown name.
    """
    ramp = torch.arange(1, timesteps + 1, dtype=torch.float64) * (2 / (timesteps * (timesteps + 1)))
    match name:
        case "increasing":
            share = ramp
        case "decreasing":
            share = ramp.flip(0)
        case "average":
            share = torch.full((timesteps,), 1 / timesteps, dtype=torch.float64)
        case _:
            raise ValueError(f"schedule {name!r} is unknown, expected one of: {', '.join(get_args(ScheduleName))}")
    return share * total
