"""Kernel Inception distance (Binkowski et al., ICLR 2018, arXiv:1801.01401)."""

from importlib.metadata import version
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from ttrd3.metrics.base import METRICS, SetMetric, SetValue
from ttrd3.metrics.inception import SOURCE, Inception
from ttrd3.pretrained import NotAvailableError

SUBSETS = 100


@METRICS.register("kid")
class Kid(SetMetric):
    """Unbiased squared maximum mean discrepancy of Inception features (cubic kernel), mean and standard deviation over
    random subsets; lower is better, and slightly negative values occur.

    Options:
        features: Layer of the features, as of fid.
        subset_size: Images in each of the 100 subsets. With fewer images a subset has half of them, and the value is
            marked.
        file: torch-fidelity's Inception weights; null takes the published ones, downloaded once.
    """

    unit = ""
    higher_is_better = False
    decimals = 5

    def __init__(
        self,
        features: Literal[64, 192, 768, 2048] = 2048,
        subset_size: Annotated[int, Field(ge=2)] = 1000,
        file: str | None = None,
        *,
        device: torch.device | str = "cpu",
        download: bool = True,
    ):
        self.features = features
        self.subset_size = subset_size
        self.name = "kid" if features == 2048 else f"kid_{features}"
        self.extractor = None
        try:
            self.extractor = Inception(features, file, "metric", device=device, download=download)
        except NotAvailableError as error:
            self.unavailable = str(error)

    def compute(self, sr: np.ndarray, hr: np.ndarray) -> SetValue:
        """KID of features (n, D) each with its standard deviation; marked below `subset_size`, no number below 4."""
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        if len(sr) < 4:
            return SetValue(None, warning=f"{len(sr)} images: subsets need at least 4. Measure more images.")
        enough = len(sr) >= self.subset_size
        size = self.subset_size if enough else len(sr) // 2
        tensors = (torch.from_numpy(features) for features in (sr, hr))
        found = kid_features_to_metric(*tensors, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False)
        warning = (
            f"{len(sr)} images, fewer than a subset of {self.subset_size}: unbiased, but its spread is that of subsets "
            f"of {size}. Quote it with the number of images and the spread."
        )
        return SetValue(found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD], None if enough else warning)

    def protocol(self) -> dict[str, str | int]:
        """Package, layer, subsets and weights."""
        return {
            "implementation": f"torch-fidelity {version('torch-fidelity')}",
            "features": self.features,
            "subsets": SUBSETS,
            "subset_size": self.subset_size,
            "weights": self.extractor.weights if self.extractor else SOURCE.file_name,
        }
