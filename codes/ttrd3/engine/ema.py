"""Exponential moving average of the weights."""

import copy

import torch
from torch import nn


class EMA:
    """A copy of `model` whose parameters follow the model's slowly.

    The n-th update uses the decay min(decay, (1 + n) / (10 + n)), so that the average soon forgets the initialisation.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move every parameter towards `model`'s."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        ours, theirs = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
