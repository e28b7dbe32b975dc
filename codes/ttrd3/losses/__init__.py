"""Losses by name; importing this package registers all of them."""

from ttrd3.losses import adversarial, features, perceptual, posterior, prediction
from ttrd3.losses.base import LOSSES, Loss, Step

__all__ = ["LOSSES", "Loss", "Step", "adversarial", "features", "perceptual", "posterior", "prediction"]
