"""LR consistency: does the SR image still say what its LR image said?"""

import numpy as np
from PIL import Image
from scipy.ndimage import minimum_filter

from ttrd3.errors import DataError
from ttrd3.metrics.base import METRICS, Metric, check_pair, require_some
from ttrd3.metrics.psnr import CAP_DB, decibels
from ttrd3.registry import PositiveInt


@METRICS.register("consistency")
class Consistency(Metric):
    """PSNR between the bicubic reductions of SR and HR, RGB, in dB, at most 80.

    It needs no guess about texture: what was invented between the LR pixels does not count, what contradicts them does.

    Options:
        scale: Both images are brought to 1/scale by Pillow's antialiased bicubic filter, as the LR image was made.
    """

    unit = "dB"
    higher_is_better = True
    decimals = 2
    nodata = "LR pixels made of valid pixels"

    def __init__(self, scale: PositiveInt = 4):
        self.scale = scale
        self.name = "consistency" if scale == 4 else f"consistency_x{scale}"

    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """PSNR of reduced SR against reduced HR, both given as (H, W, 3) uint8, in dB; where `valid` (H, W) is given,
        over the LR pixels that are made of valid pixels alone."""
        check_pair(sr, hr)
        a, b = reduced(sr, self.scale), reduced(hr, self.scale)
        if valid is not None:
            whole = _made_of(valid, a.shape[:2], self.scale)
            require_some(whole, "LR pixel")
            a, b = a[whole], b[whole]
        return decibels(a, b)

    def protocol(self) -> dict[str, str | int]:
        """Channels, reduction and cap."""
        return {"channels": "RGB", "reduction": f"Pillow bicubic x1/{self.scale}", "cap_db": CAP_DB}


def _made_of(valid: np.ndarray, shape: tuple[int, ...], scale: int) -> np.ndarray:
    """bool (H, W) -> bool `shape`: whether all pixels that the bicubic filter, 4 scales wide, makes an LR pixel of are
    valid. One more on each side where the size is no multiple of the scale, which stretches the filter a little."""
    width = 4 * scale + (1 if all(side % scale == 0 for side in valid.shape) else 3)
    low = minimum_filter(valid.astype(np.uint8), width, mode="nearest")
    rows, columns = (
        ((np.arange(count) + 0.5) * side / count).astype(int) for side, count in zip(valid.shape, shape, strict=True)
    )
    return low[np.ix_(rows, columns)].astype(bool)


def reduced(image: np.ndarray, scale: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (H // scale, W // scale, 3), as the LR image was made.

    Raises:
        DataError: The image has fewer than `scale` pixels in a direction.
    """
    height, width = (side // scale for side in image.shape[:2])
    if min(height, width) < 1:
        raise DataError(
            f"an image of {image.shape[1]} x {image.shape[0]} cannot be reduced to 1/{scale}: "
            f"at least {scale} x {scale} pixels are needed. Use larger images or a smaller scale."
        )
    # Rows first, then columns, as LR images are made (data/degrade.py): left to itself, Pillow 13 takes narrow images
    # the other way round, which shows in the last bit.
    rows = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(rows.resize((width, height), Image.Resampling.BICUBIC))
