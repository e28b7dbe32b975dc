"""Ways to train the same networks with less time or memory: memory format, compiler, recomputation, allocator."""

import ctypes
import functools
import resource
import shutil
import sys

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ttrd3.errors import DeviceError
from ttrd3.networks.layers import Attention, GuidedBlock, LinearAttention, ResnetBlock
from ttrd3.networks.mfab import PaperMFAB, ReleasedMFAB
from ttrd3.networks.small import PlainBlock

RECOMPUTED = (PaperMFAB, ReleasedMFAB, ResnetBlock, GuidedBlock, LinearAttention, Attention, PlainBlock)

# mallopt(3) of the GNU C library
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def recompute_in_backward(model: nn.Module) -> None:
    """Gradient checkpointing: keep only the inputs of blocks, and compute what is inside again in the backward pass."""
    for module in model.modules():
        if isinstance(module, RECOMPUTED):
            module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)


def compile_networks(model: nn.Module, device: torch.device) -> None:
    """Let torch.compile translate the model when it is first called.

    Raises:
        DeviceError: The compiler that it needs on this device is missing.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise DeviceError(
            "train.compile: torch.compile needs a C++ compiler on a CPU, and there is none on the PATH. "
            "Install one (apt install g++), or set train.compile: false."
        )
    model.compile()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, instead of getting it anew, and cleared, from the kernel for every tensor.

    On two cores a training step of options/ucmerced.yml took 1.04 s without and 0.61 s with it on a fresh machine, 0.95
    and 0.88 s on one that had worked for hours. Only the GNU C library has these settings.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)  # as unsigned: never
        library.mallopt(_TOP_PAD, 64 * 2**20)


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: tensors on a CUDA device, else the whole process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def in_format(images: Tensor, channels_last: bool) -> Tensor:
    """Images (N, C, H, W) with channels last in memory, if asked for."""
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images
