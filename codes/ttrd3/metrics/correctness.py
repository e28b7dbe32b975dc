"""Shares of improvement, omission and hallucination in the manner of opensr-test.

Aybar et al., "A Comprehensive Benchmark for Optical Remote Sensing Image Super-Resolution", IEEE Geoscience and Remote
Sensing Letters 21, 2024, doi:10.1109/LGRS.2024.3401394; formulas and constants of the package opensr-test 1.3.3. What
differs here: LR is the HR image reduced as everywhere in TTRD3, and SR is not shifted onto HR, with which it is aligned
by construction.
"""

import numpy as np
import torch
import torch.nn.functional as F
from skimage.exposure import match_histograms

from ttrd3.metrics.base import METRICS, PEAK, Border, Metric, check_pair, require_size, require_some, without_border
from ttrd3.metrics.consistency import reduced
from ttrd3.registry import PositiveInt

QUANTILE = 0.75  # only pixels with a distance above this quantile of the LR-HR distance are judged
SOFTNESS = 0.05  # lambda of all three scores
TEMPERATURE = 0.25
LEAST = 8  # pixels that must remain


class _Share(Metric):
    """One of the three shares, which add up to 1."""

    unit = ""
    decimals = 4
    nodata = "valid pixels"
    kind: str

    def __init__(self, scale: PositiveInt = 4, border: Border = 16):
        self.scale = scale
        self.border = border
        self.name = self.kind + (f"_x{scale}" if scale != 4 else "") + (f"_border{border}" if border != 16 else "")

    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """The share, in [0, 1], of SR against HR, both (H, W, 3) uint8; of the `valid` (H, W) pixels where given."""
        return shares(sr, hr, self.scale, self.border, valid)[self.kind]

    def protocol(self) -> dict[str, str | int]:
        """What is compared with what, and where."""
        return {
            "after": "opensr-test 1.3.3 (normalised difference, softmin 0.25)",
            "judged": "pixels above the 75 % quantile of the LR-HR difference",
            "lr": f"HR by Pillow bicubic x1/{self.scale}, enlarged bilinearly",
            "harmonised": "histograms matched to HR, not shifted",
            "border": self.border,
        }


@METRICS.register("improvement")
class Improvement(_Share):
    """Share of the detail that SR has as HR has it; higher is better. With omission and hallucination it makes 1.

    Options:
        scale: How many times larger HR is than LR.
        border: Pixels that are cut off at each side before measuring.
    """

    kind = "improvement"
    higher_is_better = True


@METRICS.register("omission")
class Omission(_Share):
    """Share of the detail of HR that SR lacks, as LR does; lower is better.

    Options:
        scale: How many times larger HR is than LR.
        border: Pixels that are cut off at each side before measuring.
    """

    kind = "omission"
    higher_is_better = False


@METRICS.register("hallucination")
class Hallucination(_Share):
    """Share of the detail of SR that neither LR nor HR has; lower is better.

    Options:
        scale: How many times larger HR is than LR.
        border: Pixels that are cut off at each side before measuring.
    """

    kind = "hallucination"
    higher_is_better = False


def shares(
    sr: np.ndarray, hr: np.ndarray, scale: int, border: int, valid: np.ndarray | None = None
) -> dict[str, float]:
    """The three shares of SR against HR, both (H, W, 3) uint8; of the `valid` (H, W) pixels where given.

    Where LR, SR and HR are one and the same image there is nothing to judge, and the result is that of any SR that
    equals its HR.

    Raises:
        DataError: Not a pair, less than 8 x 8 pixels without the border, or none of them valid.
    """
    check_pair(sr, hr)
    require_size(hr, LEAST, border)
    height, width = hr.shape[:2]
    lr, truth, sr = (without_border(i, border) for i in (_enlarged(reduced(hr, scale), height, width), hr, sr))
    if valid is not None:  # all that follows looks at pixels one by one: a column of them is an image, too
        inside = without_border(valid, border)
        require_some(inside, "pixel")
        lr, truth, sr = (image[inside][:, None] for image in (lr, truth, sr))
    truth = truth.astype(np.float64) / PEAK
    harmonised = match_histograms(sr.astype(np.float64) / PEAK, truth, channel_axis=2)
    detail, error, change = _difference(lr, truth), _difference(harmonised, truth), _difference(harmonised, lr)
    judged = np.maximum(np.maximum(detail, error), change) > np.sort(detail, axis=None)[_rank(detail.size)]
    if not judged.any():
        judged[:] = True
    scores = _scores(*(distance[judged] for distance in (detail, error, change)))
    weights = np.exp(-np.stack(scores) / TEMPERATURE)  # (3, pixels)
    improvement, omission, hallucination = (weights / weights.sum(0)).mean(1).tolist()
    return {"improvement": improvement, "omission": omission, "hallucination": hallucination}


def _rank(pixels: int) -> int:
    """Place of the quantile in sorted order, as torch.kthvalue counts it."""
    return max(int(QUANTILE * pixels) - 1, 0)


def _scores(detail: np.ndarray, error: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (pixels,) of LR-HR, SR-HR and SR-LR -> distances to improvement, omission and hallucination."""
    flat = detail == 0  # LR is right there: SR either agrees with both (perfect) or with neither (infinitely far)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.where(flat & (error == 0), 0.0, error / detail)
        change = np.where(flat & (change == 0), 1.0, change / detail)
        rest = 1 - np.exp(-SOFTNESS * (error + change - 1))
        return error + change * rest, change + error * rest, np.exp(-SOFTNESS * error * change)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over channels of |a - b| / (a + b): (H, W, 3) -> (H, W)."""
    return (np.abs(a - b) / (a + b + 1e-8)).mean(2)


def _enlarged(lr: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear: uint8 (h, w, 3) -> float64 (height, width, 3) in [0, 1]."""
    tensor = torch.from_numpy(lr.astype(np.float64) / PEAK).permute(2, 0, 1)[None]
    large = F.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).numpy()
