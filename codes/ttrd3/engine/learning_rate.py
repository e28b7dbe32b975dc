"""The learning rate as a function of the step."""

import math

from ttrd3.engine.options import TrainOptions

FLOOR = 0.01  # where cosine ends, as a share of the highest rate


def learning_rate(step: int, train: TrainOptions) -> float:
    """Rate for optimiser step `step` = 0..steps-1: linear warm-up, then constant or cosine."""
    rate = train.learning_rate
    if train.schedule == "cosine":
        progress = max(0, step - train.warmup) / max(1, train.steps - train.warmup)
        rate *= FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return rate * min(1.0, (step + 1) / (train.warmup + 1))
