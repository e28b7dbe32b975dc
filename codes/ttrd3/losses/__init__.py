"""Losses by name; importing this package registers all of them."""

from ttrd3.losses import adversarial, features, grid, perceptual, posterior, prediction, reduced, structural
from ttrd3.losses.base import LOSSES, Loss, Step

__all__ = [
    "LOSSES",
    "Loss",
    "Step",
    "adversarial",
    "features",
    "grid",
    "perceptual",
    "posterior",
    "prediction",
    "reduced",
    "structural",
]
