"""Where networks compute: what a user calls a device -> a device of PyTorch that is there."""

import torch

from ttrd3.errors import DeviceError


def find_device(name: str) -> torch.device:
    """auto (CUDA where there is one), cpu, cuda or cuda:N -> the device.

    Raises:
        DeviceError: No device has this name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError:  # a command line's word; option files are checked before
        raise DeviceError(f"device: found {name!r}, expected auto, cpu, cuda or cuda:N.") from None


def require_device(device: torch.device) -> None:
    """Refuse a CUDA device that is not there.

    Raises:
        DeviceError: Says what there is.
    """
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device: found {device}, but this machine offers {torch.cuda.device_count()} CUDA devices to PyTorch. "
            "Use device=auto or device=cpu; `ttrd3 doctor` says what is there."
        )
