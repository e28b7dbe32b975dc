"""Number formats that the networks can compute in: float32, TF32, bfloat16, float16."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from ttrd3.errors import DeviceError

PrecisionName = Literal["float32", "tf32", "bfloat16", "float16"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def require_precision(name: PrecisionName, device: torch.device, option: str) -> None:
    """Check that `device` has a number format.

    Raises:
        DeviceError: It has not, or only by emulation; names the option that asked for it.
    """
    on_cuda = device.type == "cuda"
    if name == "tf32" and not (on_cuda and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise _unsupported(name, device, option, "float32, or bfloat16 to be faster")
    if name == "bfloat16" and on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise _unsupported(name, device, option, "float16")


@contextlib.contextmanager
def of_networks(name: PrecisionName, device: torch.device) -> Iterator[None]:
    """The block's matrix products and convolutions are in this precision."""
    with torch.autocast(device.type, dtype=_HALF.get(name), enabled=name in _HALF), of_products(name):
        yield


def exact_float32() -> None:
    """Turn TF32 off, which PyTorch has on for convolutions: float32 means float32, in validation too."""
    _allow_tf32(matmul=False, cudnn=False)


@contextlib.contextmanager
def of_products(name: PrecisionName) -> Iterator[None]:
    """The block's float32 products and convolutions are TF32, if `name` says so: around the backward pass, too."""
    if name != "tf32":
        yield
        return
    former = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        _allow_tf32(matmul=True, cudnn=True)
        yield
    finally:
        _allow_tf32(*former)


def _allow_tf32(matmul: bool, cudnn: bool) -> None:
    # The older of PyTorch's two interfaces: parts of PyTorch itself (torch.export, Inductor) still read it, and fail
    # where the newer, `fp32_precision`, has been set.
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = cudnn


def _unsupported(name: str, device: torch.device, option: str, instead: str) -> DeviceError:
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    return DeviceError(f"{option}: found {name}, which {what} does not have. Use {instead}.")
