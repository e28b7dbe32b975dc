"""Frechet Inception distance (Heusel et al., NeurIPS 2017, arXiv:1706.08500)."""

from importlib.metadata import version
from typing import Literal

import numpy as np
import torch

from ttrd3.metrics.base import METRICS, SetMetric, SetValue
from ttrd3.metrics.inception import SOURCE, Inception
from ttrd3.pretrained import NotAvailableError


@METRICS.register("fid")
class Fid(SetMetric):
    """Distance of two Gaussians fitted to Inception features of all SR and of all HR images; lower is better.

    With fewer images than features the covariances cannot be estimated and the value is far too high: it is marked.

    Options:
        features: 2048 is FID; 192 and 64 are features of early layers for smaller sets, with numbers of their own.
        file: torch-fidelity's Inception weights; null takes the published ones, downloaded once.
    """

    unit = ""
    higher_is_better = False
    decimals = 2

    def __init__(
        self,
        features: Literal[64, 192, 768, 2048] = 2048,
        file: str | None = None,
        *,
        device: torch.device | str = "cpu",
        download: bool = True,
    ):
        self.features = features
        self.name = "fid" if features == 2048 else f"fid_{features}"
        self.extractor = None
        try:
            self.extractor = Inception(features, file, "metric", device=device, download=download)
        except NotAvailableError as error:
            self.unavailable = str(error)

    def compute(self, sr: np.ndarray, hr: np.ndarray) -> SetValue:
        """FID of features (n, D) each; marked below D images, and no number below 2."""
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

        if len(sr) < 2:
            return SetValue(None, warning=f"{len(sr)} image: a covariance needs at least 2. Measure more images.")
        statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (sr, hr)]
        value = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
        if len(sr) >= self.features:
            return SetValue(value)
        return SetValue(
            value,
            warning=f"{len(sr)} images, fewer than the {self.features} features: far too high and not comparable with "
            "any other number of images. Do not quote it; KID stays unbiased.",
        )

    def protocol(self) -> dict[str, str | int]:
        """Package, layer and weights."""
        weights = self.extractor.weights if self.extractor else SOURCE.file_name
        return {
            "implementation": f"torch-fidelity {version('torch-fidelity')}",
            "features": self.features,
            "weights": weights,
        }
