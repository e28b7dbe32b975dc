"""Image quality metrics; importing this package registers them all in `METRICS`."""

from ttrd3.metrics import consistency, psnr, ssim
from ttrd3.metrics.base import METRICS, Metric

__all__ = ["METRICS", "Metric", "consistency", "psnr", "ssim"]
