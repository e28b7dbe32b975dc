"""Number formats of training: float32, TF32, bfloat16, and float16 with scaled gradients."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from ttrd3.errors import DeviceError

PrecisionName = Literal["float32", "tf32", "bfloat16", "float16"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """How the networks compute while they train. Weights, losses, optimiser and validation stay float32.

    Losses are not in half precision: the posterior means that they compare differ by less than bfloat16 resolves.
    """

    def __init__(self, name: PrecisionName, device: torch.device):
        """Check that `device` can do it.

        Raises:
            DeviceError: It cannot, or only by emulation.
        """
        self.name = name
        self.device = device
        on_cuda = device.type == "cuda"
        if name == "tf32" and not (on_cuda and torch.cuda.get_device_capability(device) >= (8, 0)):
            raise _unsupported(name, device, "float32, or bfloat16 to be faster")
        if name == "bfloat16" and on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise _unsupported(name, device, "float16")
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    @contextlib.contextmanager
    def of_networks(self) -> Iterator[None]:
        """The block's matrix products and convolutions are in this precision."""
        with torch.autocast(self.device.type, dtype=_HALF.get(self.name), enabled=self.name in _HALF):
            if self.name == "tf32":
                with _float32_products("tf32"):
                    yield
            else:
                yield


def exact_float32() -> None:
    """Turn TF32 off, which PyTorch has on for convolutions: float32 means float32, in validation too."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"


@contextlib.contextmanager
def _float32_products(kind: str) -> Iterator[None]:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    former = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = kind
        yield
    finally:
        for backend, precision in zip(backends, former, strict=True):
            backend.fp32_precision = precision


def _unsupported(name: str, device: torch.device, instead: str) -> DeviceError:
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    return DeviceError(f"train.precision: found {name}, which {what} does not have. Use {instead}.")
