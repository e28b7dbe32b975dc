"""Peak signal-to-noise ratio."""

import numpy as np
from skimage.metrics import peak_signal_noise_ratio

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

# Identical images have an infinite PSNR: one of them would make the mean infinite, and JSON has no infinity.
# 80 dB means that one value in 1500 is off by one grey level: no x4 super-resolution of a textured image comes near.
CAP_DB = 80


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two arrays of one shape with peak 255, in dB and at most `CAP_DB`."""
    if np.array_equal(a, b):
        return float(CAP_DB)
    return min(float(peak_signal_noise_ratio(b, a, data_range=PEAK)), float(CAP_DB))


@METRICS.register("psnr")
class Psnr(Metric):
    """PSNR over all pixels and channels, in dB, at most 80; the defaults are the paper's protocol.

    Options:
        channels: `rgb`, or `y` for BT.601 luma as much of the literature does, which adds about 1.3 dB.
        border: Pixels that are cut off at each side before measuring.
    """

    unit = "dB"
    higher_is_better = True
    decimals = 2
    nodata = "valid pixels"

    def __init__(self, channels: Channels = "rgb", border: Border = 0):
        self.channels = channels
        self.border = border
        self.name = "psnr" + ("_y" if channels == "y" else "") + (f"_border{border}" if border else "")

    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """PSNR of SR against HR, both (H, W, 3) uint8, in dB; of the `valid` (H, W) pixels where given."""
        a, b = comparable(sr, hr, self.channels, self.border, least=1)
        if valid is not None:
            inside = without_border(valid, self.border)
            require_some(inside, "pixel")
            a, b = a[inside], b[inside]
        return decibels(a, b)

    def protocol(self) -> dict[str, str | int]:
        """Channels, border, peak and cap."""
        return {
            "channels": channels_text(self.channels),
            "border": self.border,
            "data_range": PEAK,
            "cap_db": CAP_DB,
        }
