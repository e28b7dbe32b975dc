"""Number formats of training: float32, TF32, bfloat16, and float16 with scaled gradients."""

from contextlib import AbstractContextManager

import torch

from ttrd3.inference.precision import PrecisionName, of_networks, of_products, require_precision


class Precision:
    """How the networks compute while they train. Weights, losses, optimiser and validation stay float32.

    Losses are not in half precision: the posterior means that they compare differ by less than bfloat16 resolves.
    """

    def __init__(self, name: PrecisionName, device: torch.device):
        """Check that `device` can do it.

        Raises:
            DeviceError: It cannot, or only by emulation.
        """
        require_precision(name, device, "train.precision")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def of_networks(self) -> AbstractContextManager[None]:
        """The block's matrix products and convolutions are in this precision."""
        return of_networks(self.name, self.device)

    def of_products(self) -> AbstractContextManager[None]:
        """For the whole of forward and backward pass, which autocast does not need and TF32 does."""
        return of_products(self.name)
