"""Image quality metrics; importing this package registers them all in `METRICS`."""

from ttrd3.metrics import consistency, correctness, dists, fid, kid, lpips, psnr, ssim
from ttrd3.metrics.base import METRICS, Metric, SetMetric, SetValue
from ttrd3.metrics.measuring import Measured, Measuring

__all__ = [
    "METRICS",
    "Measured",
    "Measuring",
    "Metric",
    "SetMetric",
    "SetValue",
    "consistency",
    "correctness",
    "dists",
    "fid",
    "kid",
    "lpips",
    "psnr",
    "ssim",
]
