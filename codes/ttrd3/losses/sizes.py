"""What a loss that looks through windows asks of the size of images."""

from torch import Tensor

from ttrd3.errors import DataError


def require_size(images: Tensor, smallest: int, loss: str, multiple: int = 1) -> None:
    """Refuse images (N, C, H, W) whose sides are below `smallest` or no multiples of `multiple` pixels.

    Raises:
        DataError: It names the loss, the size and the option to change.
    """
    height, width = images.shape[2:]
    if min(height, width) >= smallest and height % multiple == width % multiple == 0:
        return
    multiples = f" and multiples of {multiple}" if multiple > 1 else ""
    raise DataError(
        f"losses: {loss}: found images of {width} x {height} pixels, expected at least {smallest} x {smallest}"
        f"{multiples}. Set data.train.crop to such a size."
    )
