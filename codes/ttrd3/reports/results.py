"""The numbers of a validation: collected image by image, summed up, and written for people and programs."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrd3.errors import ConfigError, DataError
from ttrd3.files import write_text
from ttrd3.metrics import Metric
from ttrd3.reports import tables

BASELINE = "bicubic"  # stands beside every other method: without it nobody can judge a number
RESERVED = frozenset({"protocol", "images", "per_class"})


@dataclass(frozen=True)
class Row:
    """The metric values of one image by one method."""

    image: str
    class_name: str
    reference: str | None
    method: str
    values: dict[str, float]


class Results:
    """Metric values of a validation, by image and method.

    Nothing that is shown or written depends on the order in which rows were added.
    """

    def __init__(self, metrics: Sequence[Metric]):
        names = [metric.name for metric in metrics]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two metrics would both be written as {name!r}. Keep one of them.")
        self.metrics = list(metrics)
        self._rows: dict[tuple[str, str, str], Row] = {}

    def add(
        self, image: str, class_name: str, method: str, values: Mapping[str, float], reference: str | None = None
    ) -> None:
        """Record what `method` reached on one image.

        Args:
            image: The image's name, unique in its class.
            class_name: Its scene class; empty if there is none.
            method: "bicubic", "ttrd3", ...
            values: {metric name: value} for exactly the metrics of this table; finite.
            reference: The name of the reference image that the method was given, if any.

        Raises:
            DataError: The image was already measured with this method (two images have one name).
            ValueError: Not the metrics of this table, a value that is not finite, or a reserved method name.
        """
        expected = [metric.name for metric in self.metrics]
        if values.keys() != set(expected):
            raise ValueError(f"{image}: found values for {sorted(values)}, expected {sorted(expected)}")
        if not all(math.isfinite(value) for value in values.values()):
            raise ValueError(f"{image}, {method}: not finite: {dict(values)}")
        if method in RESERVED:
            raise ValueError(f"a method cannot be called {method!r}: results.json uses that key otherwise")
        key = (image, class_name, method)
        if key in self._rows:
            raise DataError(
                f"{image}: two images of class {class_name!r} have this name, so their rows could not be told apart. "
                "Rename one of them."
            )
        self._rows[key] = Row(image, class_name, reference, method, {name: float(values[name]) for name in expected})

    def write(self, folder: Path, extra_protocol: Mapping[str, Any] | None = None) -> None:
        """Write `per_image.csv`, `results.md` and, last, `results.json` into `folder`, each whole or not at all.

        `results.json` is strict JSON: {method: {metric: mean}}, and beside the methods "per_class"
        ({class: {method: {metric: mean}}}), "images" (how many) and "protocol".

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
        *classes, overall = self._groups()
        return {
            **overall.means,
            "per_class": {group.name: group.means for group in classes},
            "images": overall.images,
            "protocol": self._protocol(extra_protocol),
        }

    def overall(self) -> dict[str, dict[str, float]]:
        """Mean of each metric over all images: {method: {metric: mean}}."""
        return self._groups()[-1].means

    def table(self, extra_protocol: Mapping[str, Any] | None = None) -> str:
        """A table for the terminal, at most 100 columns wide, with the protocol and the number of images beneath."""
        return tables.terminal(self._groups(), self.metrics, BASELINE, self._protocol(extra_protocol))

    def markdown(self, extra_protocol: Mapping[str, Any] | None = None) -> str:
        """The same as a Markdown table."""
        return tables.markdown(self._groups(), self.metrics, BASELINE, self._protocol(extra_protocol))

    def _sorted(self) -> list[Row]:
        return sorted(self._rows.values(), key=lambda row: (row.image, row.class_name, *_baseline_first(row.method)))

    def _groups(self) -> list[tables.Group]:
        """One group per class in the order of their names, then all images."""
        if not self._rows:
            raise DataError("no image was measured, so there are no results. Check that the validation set has images.")
        methods = {BASELINE} | {method for _, _, method in self._rows}
        images = {(image, class_name) for image, class_name, _ in self._rows}
        wanted = {(*image, method) for image in images for method in methods}
        missing = sorted(wanted - self._rows.keys())
        if missing:
            image, class_name, method = missing[0]
            raise ValueError(f"{method} has no values for {len(missing)} image(s), e.g. {class_name}/{image}")
        rows = self._sorted()
        classes = sorted({row.class_name for row in rows})
        groups = [self._group(name, [row for row in rows if row.class_name == name]) for name in classes]
        return [*groups, self._group("overall", rows)]

    def _group(self, name: str, rows: list[Row]) -> tables.Group:
        methods = sorted({row.method for row in rows}, key=_baseline_first)
        means = {
            method: {m.name: _mean(row.values[m.name] for row in rows if row.method == method) for m in self.metrics}
            for method in methods
        }
        return tables.Group(name, len(rows) // len(methods), means)

    def _protocol(self, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        own = {
            "averaging": "mean over images",
            "metrics": {metric.name: metric.protocol() for metric in self.metrics},
        }
        if extra and extra.keys() & own.keys():
            raise ValueError(f"extra_protocol may not hold {sorted(extra.keys() & own.keys())}")
        return {**own, **(extra or {})}

    def _csv(self) -> str:
        names = [metric.name for metric in self.metrics]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "class", "reference", "method", *names])
        for row in self._sorted():
            values = [repr(row.values[name]) for name in names]  # repr: the shortest text that reads back the same
            writer.writerow([row.image, row.class_name, row.reference or "", row.method, *values])
        return text.getvalue()


def _baseline_first(method: str) -> tuple[bool, str]:
    return method != BASELINE, method


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)
