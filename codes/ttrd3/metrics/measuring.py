"""Measures one image after another by every metric that is available; what validation and `evaluate` share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ttrd3.metrics.base import Described, Extractor, Metric, SetMetric, as_in_truth, check_pair


@dataclass(frozen=True)
class Measured:
    """What is kept of one SR image and its HR.

    Attributes:
        values: Per-image metrics by name.
        features: What set metrics need: {extractor's key: (2, D), SR's features then HR's}.
    """

    values: dict[str, float]
    features: dict[str, np.ndarray] = field(default_factory=dict)


class Measuring:
    """Every available metric, each network once.

    Attributes:
        images: The per-image metrics that are available, in their given order.
        sets: Those of whole sets.
        unavailable: {name: why, and what mends it} of the others.
    """

    def __init__(self, metrics: Sequence[Described]):
        available = [metric for metric in metrics if metric.unavailable is None]
        self.images = [metric for metric in available if isinstance(metric, Metric)]
        self.sets = [metric for metric in available if isinstance(metric, SetMetric)]
        self.unavailable = {metric.name: metric.unavailable for metric in metrics if metric.unavailable is not None}
        self._extractors: dict[str, Extractor] = {metric.extractor.key: metric.extractor for metric in self.sets}
        self._truth: np.ndarray | None = None
        self._truth_features: dict[str, np.ndarray] = {}

    @property
    def nodata(self) -> str:
        """What the metrics do about pixels that do not count, for the protocol."""
        words: dict[str, list[str]] = {}
        for metric in self.images:
            words.setdefault(metric.nodata, []).append(metric.name)
        for metric in self.sets:
            words.setdefault("SR taken from HR elsewhere", []).append(metric.name)
        return "; ".join(f"{', '.join(names)}: {text}" for text, names in words.items())

    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> Measured:
        """Measure SR against HR, both (H, W, 3) uint8, of which `valid`, bool (H, W), counts; None: all.

        Raises:
            DataError: The two are not 8-bit RGB of one size, or too small for a metric, or too little of them counts.
        """
        check_pair(sr, hr)
        if valid is not None and valid.all():
            valid = None
        values = {metric.name: metric(sr, hr, valid) for metric in self.images}
        if hr is not self._truth:  # several methods are measured against one HR: its features are taken once
            self._truth, self._truth_features = hr, {key: take(hr) for key, take in self._extractors.items()}
        seen = as_in_truth(sr, hr, valid)
        features = {key: np.stack([take(seen), self._truth_features[key]]) for key, take in self._extractors.items()}
        return Measured(values, features)
