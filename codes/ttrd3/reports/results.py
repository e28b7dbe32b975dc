"""The numbers of a validation: collected image by image, summed up, and written for people and programs."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ttrd3.errors import ConfigError, DataError
from ttrd3.files import write_text
from ttrd3.metrics import Measuring, SetValue
from ttrd3.metrics.base import Described
from ttrd3.reports import tables
from ttrd3.reports.statistics import LEVEL, RESAMPLES, SEED
from ttrd3.reports.summing import Row, in_order, sum_up

BASELINE = "bicubic"  # stands beside every other method: without it nobody can judge a number
AGAINST = "against"  # the second method of `ttrd3 evaluate --against`, which the first is compared with
RESERVED = frozenset({"protocol", "images", "per_class", "statistics"})


class Results:
    """Metric values of a validation, by image and method.

    Nothing that is shown or written depends on the order in which rows were added.
    """

    def __init__(self, metrics: Sequence[Described], baseline: str | None = BASELINE):
        """Results of `metrics`, available or not; differences are to the method `baseline`, if there is one.

        Raises:
            ConfigError: Two metrics have one name.
        """
        names = [metric.name for metric in metrics]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two metrics would both be written as {name!r}. Keep one of them.")
        measuring = Measuring(metrics)
        self.metrics, self.sets, self.unavailable = measuring.images, measuring.sets, measuring.unavailable
        self.baseline = baseline
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._found: tables.Findings | None = None

    def add(
        self,
        image: str,
        class_name: str,
        method: str,
        values: Mapping[str, float],
        reference: str | None = None,
        features: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Record what `method` reached on one image.

        Args:
            image: The image's name, unique in its class.
            class_name: Its scene class; empty if there is none.
            method: "bicubic", "ttrd3", ...
            values: {metric name: value} for exactly the available per-image metrics of this table; finite.
            reference: The name of the reference image that the method was given, if any.
            features: `Measured.features`, where there are set metrics.

        Raises:
            DataError: The image was already measured with this method (two images have one name).
            ValueError: Not the metrics of this table, a value that is not finite, features that are missing, or a
                reserved method name.
        """
        expected = [metric.name for metric in self.metrics]
        if values.keys() != set(expected):
            raise ValueError(f"{image}: found values for {sorted(values)}, expected {sorted(expected)}")
        if not all(math.isfinite(value) for value in values.values()):
            raise ValueError(f"{image}, {method}: not finite: {dict(values)}")
        lacking = {metric.extractor.key for metric in self.sets} - (features or {}).keys()
        if lacking:
            raise ValueError(f"{image}, {method}: no features for {sorted(lacking)}")
        if method in RESERVED:
            raise ValueError(f"a method cannot be called {method!r}: results.json uses that key otherwise")
        ordered = {name: float(values[name]) for name in expected}
        self.extend([Row(image, class_name, reference, method, ordered, dict(features or {}))])

    @property
    def rows(self) -> list[Row]:
        """What was added, for `extend` of the same results in another process."""
        return list(self._rows.values())

    def extend(self, rows: Iterable[Row]) -> None:
        """Add the `rows` of results of the same metrics.

        Raises:
            DataError: An image is there already (two images have one name).
        """
        for row in rows:
            key = (row.image, row.class_name, row.method)
            if key in self._rows:
                raise DataError(
                    f"{row.image}: two images of class {row.class_name!r} have this name, so their rows could not be "
                    "told apart. Rename one of them."
                )
            self._rows[key] = row
        self._found = None

    def write(self, folder: Path, extra_protocol: Mapping[str, Any] | None = None) -> None:
        """Write `per_image.csv`, `results.md` and, last, `results.json` into `folder`, each whole or not at all.

        `results.json` is strict JSON: {method: {metric: mean}}, and beside the methods "per_class"
        ({class: {method: {metric: mean}}}), "images" (how many), "protocol" and "statistics":

        - "intervals": {method: {metric: [low, high]}}, 95 % of the mean; null for a single image;
        - "per_class_intervals": {class: the same};
        - "paired": {method: {metric: against the baseline: images, difference, low, high, p_value, larger, smaller}};
        - "sets": {method: {set metric: value, spread, images, warning}}: not among the means, because a number with a
          warning must not be read without it;
        - "not_available": {metric: why, and what mends that}.

        Args:
            folder: Made if missing.
            extra_protocol: What else decides the numbers (data, seed, sampler steps, weights): JSON values by name.

        Raises:
            UserError: The folder cannot be written.
            DataError: No image was measured.
            ValueError: A method lacks an image that another has, or `extra_protocol` holds infinities or our keys.
            TypeError: `extra_protocol` holds what JSON cannot.
        """
        document = json.dumps(self.summary(extra_protocol), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        write_text(folder / "per_image.csv", self._csv())
        write_text(folder / "results.md", self.markdown(extra_protocol))
        write_text(folder / "results.json", document)

    def summary(self, extra_protocol: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The content of `results.json`."""
        found = self._findings(extra_protocol)
        *classes, overall = found.groups
        sets = {
            method: {name: {**asdict(value), "images": overall.images} for name, value in values.items()}
            for method, values in found.set_values.items()
        }
        statistics = {
            "intervals": overall.intervals,
            "per_class_intervals": {group.name: group.intervals for group in classes},
            "paired": {
                method: {name: asdict(test) for name, test in tests.items()} for method, tests in found.paired.items()
            },
            "sets": sets,
            "not_available": dict(found.unavailable),
        }
        return {
            **overall.means,
            "per_class": {group.name: group.means for group in classes},
            "images": overall.images,
            "protocol": found.protocol,
            "statistics": statistics,
        }

    def overall(self) -> dict[str, dict[str, float]]:
        """Mean of each per-image metric over all images: {method: {metric: mean}}."""
        return self._findings(None).groups[-1].means

    def set_values(self) -> dict[str, dict[str, SetValue]]:
        """Of each set metric: {method: {metric: value}}; empty where there are none."""
        return dict(self._findings(None).set_values)

    def table(self, extra_protocol: Mapping[str, Any] | None = None) -> str:
        """A table for the terminal, at most 100 columns wide, with the protocol and the number of images beneath."""
        return tables.terminal(self._findings(extra_protocol))

    def markdown(self, extra_protocol: Mapping[str, Any] | None = None) -> str:
        """The same as a Markdown table."""
        return tables.markdown(self._findings(extra_protocol))

    def _findings(self, extra_protocol: Mapping[str, Any] | None) -> tables.Findings:
        if self._found is None:  # set metrics take seconds: once for all that is written and shown
            self._found = sum_up(self.rows, self.metrics, self.sets, self.baseline)
        return replace(self._found, unavailable=self.unavailable, protocol=self._protocol(extra_protocol))

    def _protocol(self, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        own = {
            "averaging": "mean over images",
            "intervals": f"percentile bootstrap of the mean at {LEVEL:.0%}, {RESAMPLES} resamples, seed {SEED}",
            "metrics": {metric.name: metric.protocol() for metric in [*self.metrics, *self.sets]},
        }
        if extra and extra.keys() & own.keys():
            raise ValueError(f"extra_protocol may not hold {sorted(extra.keys() & own.keys())}")
        return {**own, **(extra or {})}

    def _csv(self) -> str:
        names = [metric.name for metric in self.metrics]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "class", "reference", "method", *names])
        for row in in_order(self.rows, self.baseline):
            values = [repr(row.values[name]) for name in names]  # repr: the shortest text that reads back the same
            writer.writerow([row.image, row.class_name, row.reference or "", row.method, *values])
        return text.getvalue()
