"""Structural similarity (Wang et al., IEEE Transactions on Image Processing 13(4), 2004)."""

from typing import Literal

import numpy as np
from scipy.ndimage import minimum_filter
from skimage.metrics import structural_similarity

from ttrd3.metrics.base import (
    METRICS,
    PEAK,
    Border,
    Channels,
    Metric,
    channels_text,
    comparable,
    require_some,
    without_border,
)

Window = Literal["uniform7", "gaussian11"]

# scikit-image's names for each window; the second set is that of the SSIM paper.
SETTINGS: dict[str, dict[str, object]] = {
    "uniform7": {"win_size": 7},
    "gaussian11": {"win_size": 11, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}
TEXTS = {"uniform7": "7x7 uniform", "gaussian11": "11x11 Gaussian (sigma 1.5)"}


@METRICS.register("ssim")
class Ssim(Metric):
    """SSIM in [-1, 1], the mean over windows and channels; the defaults are what the paper's numbers fit.

    Options:
        channels: `rgb` (the mean of three channels), or `y` for BT.601 luma.
        border: Pixels that are cut off at each side before measuring.
        window: `uniform7` is scikit-image's default window of 7 x 7, `gaussian11` the 11 x 11 Gaussian window of
            the SSIM paper, which reads about 0.02 lower.
    """

    unit = ""
    higher_is_better = True
    decimals = 4
    nodata = "windows of valid pixels"

    def __init__(self, channels: Channels = "rgb", border: Border = 0, window: Window = "uniform7"):
        self.channels = channels
        self.border = border
        self.window = window
        self.name = "ssim" + ("_y" if channels == "y" else "") + ("_gauss" if window == "gaussian11" else "")
        self.name += f"_border{border}" if border else ""

    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """SSIM of SR against HR, both (H, W, 3) uint8; the mean over windows of `valid` (H, W) pixels where given."""
        settings = SETTINGS[self.window]
        a, b = comparable(sr, hr, self.channels, self.border, least=settings["win_size"])
        axis = 2 if self.channels == "rgb" else None
        if valid is None:
            return float(structural_similarity(b, a, channel_axis=axis, data_range=PEAK, **settings))
        size = settings["win_size"]
        whole = minimum_filter(without_border(valid, self.border).astype(np.uint8), size, mode="constant").astype(bool)
        require_some(whole, f"window of {size} x {size} pixels")
        _, values = structural_similarity(b, a, channel_axis=axis, data_range=PEAK, full=True, **settings)
        return float(values[whole].mean(dtype=np.float64))

    def protocol(self) -> dict[str, str | int]:
        """Channels, border, window and peak."""
        return {
            "channels": channels_text(self.channels),
            "border": self.border,
            "window": TEXTS[self.window],
            "data_range": PEAK,
        }
