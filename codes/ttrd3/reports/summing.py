"""Rows of single images -> what a table shows: means, intervals, paired tests, set metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ttrd3.errors import DataError
from ttrd3.metrics import Metric, SetMetric
from ttrd3.reports.statistics import bootstrap_interval, paired_test
from ttrd3.reports.tables import Findings, Group


@dataclass(frozen=True)
class Row:
    """What was measured of one image by one method; plain data, to be gathered from several processes.

    Attributes:
        features: What the set metrics need of it: {extractor's key: (2, D) float32, the image's then its truth's}.
    """

    image: str
    class_name: str
    reference: str | None
    method: str
    values: dict[str, float]
    features: dict[str, np.ndarray] = field(default_factory=dict)


def sum_up(rows: Sequence[Row], metrics: Sequence[Metric], sets: Sequence[SetMetric], baseline: str | None) -> Findings:
    """Everything that follows from the rows, whatever their order.

    Raises:
        DataError: No rows.
        ValueError: A method lacks an image that another has, or the baseline lacks all.
    """
    _require_complete(rows, baseline)
    by_method: dict[str, list[Row]] = {}
    for row in in_order(rows, baseline):
        by_method.setdefault(row.method, []).append(row)
    by_method = {method: by_method[method] for method in sorted(by_method, key=lambda m: (m != baseline, m))}
    groups = []
    for name in sorted({row.class_name for row in rows}):
        of_class = {method: [row for row in of if row.class_name == name] for method, of in by_method.items()}
        groups.append(_group(name, of_class, metrics))
    groups.append(_group("overall", by_method, metrics))
    paired = {
        method: {m.name: paired_test(_column(by_method[baseline], m), _column(of, m)) for m in metrics}
        for method, of in by_method.items()
        if baseline not in (None, method)
    }
    set_values = {
        method: {metric.name: metric.compute(*_features(of, metric)) for metric in sets}
        for method, of in by_method.items()
        if sets
    }
    return Findings(groups, metrics, baseline, {}, paired, sets, set_values)


def in_order(rows: Iterable[Row], baseline: str | None) -> list[Row]:
    """By image, then the baseline, then the other methods by name."""
    return sorted(rows, key=lambda row: (row.image, row.class_name, row.method != baseline, row.method))


def _require_complete(rows: Sequence[Row], baseline: str | None) -> None:
    if not rows:
        raise DataError("no image was measured, so there are no results. Check that the validation set has images.")
    there = {(row.image, row.class_name, row.method) for row in rows}
    methods = {row.method for row in rows} | ({baseline} if baseline else set())
    missing = sorted({(row.image, row.class_name, method) for row in rows for method in methods} - there)
    if missing:
        image, class_name, method = missing[0]
        raise ValueError(f"{method} has no values for {len(missing)} image(s), e.g. {class_name}/{image}")


def _group(name: str, by_method: Mapping[str, list[Row]], metrics: Sequence[Metric]) -> Group:
    columns = {method: {m.name: _column(of, m) for m in metrics} for method, of in by_method.items()}
    means = {
        method: {metric: math.fsum(values) / len(values) for metric, values in of.items()}
        for method, of in columns.items()
    }
    intervals = {
        method: {metric: bootstrap_interval(values) if len(values) > 1 else None for metric, values in of.items()}
        for method, of in columns.items()
    }
    return Group(name, len(next(iter(by_method.values()))), means, intervals)


def _column(rows: Sequence[Row], metric: Metric) -> list[float]:
    return [row.values[metric.name] for row in rows]


def _features(rows: Sequence[Row], metric: SetMetric) -> tuple[np.ndarray, np.ndarray]:
    """The images' and their truths' features, (n, D) each."""
    both = np.stack([row.features[metric.extractor.key] for row in rows], axis=1)  # (2, n, D)
    return both[0], both[1]
