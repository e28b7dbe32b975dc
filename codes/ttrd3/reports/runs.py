"""Reads what a validation left: its protocol, the metrics of every image, and where its restored images lie."""

import csv
import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrd3.errors import DataError
from ttrd3.metrics import METRICS
from ttrd3.reports.results import AGAINST, BASELINE

RESULTS, PER_IMAGE = "results.json", "per_image.csv"
OWN_COLUMNS = ("image", "class", "reference", "method")
PROTOCOL_OF_TABLES = ("averaging", "intervals", "metrics")  # the other keys of a protocol describe the run

MOST = len(string.ascii_uppercase)  # runs in one table: each has a letter

Key = tuple[str, str]  # (class, image)


@dataclass(frozen=True)
class Measure:
    """A metric as a table shows it.

    Attributes:
        name: Column of per_image.csv.
        unit: "dB", or empty.
        higher_is_better: None where this version of ttrd3 does not know the metric.
        decimals: How many to show.
        protocol: What two people must agree on to get the same number.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    decimals: int
    protocol: dict[str, Any]

    @property
    def head(self) -> str:
        """ "psnr (dB)"."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: float, *, signed: bool = False) -> str:
        """The value as tables show it; with `signed` as a difference."""
        return _rounded(value, self.decimals, "+" if signed else "")

    def fine(self, value: float) -> str:
        """A difference between two runs, which may be small: with a digit more."""
        return _rounded(value, self.decimals + 1, "+")


@dataclass(frozen=True)
class SetResult:
    """What a metric of the whole set (FID) found; None where it could not; and why it must not be quoted as it is."""

    value: float | None
    warning: str | None


@dataclass(frozen=True)
class Entry:
    """One image: the name of its reference (empty: none) and {method: {metric: value}}."""

    reference: str
    values: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Run:
    """One validation.

    Attributes:
        folder: The validation folder.
        protocol: What its tables say besides the metrics: data, split, reference, seed, weights ...
        averaging: How its means were taken.
        measures: The metrics of single images.
        method: The method that was validated, beside bicubic and what it was evaluated against.
        means: {method: {metric: mean}} of them.
        set_measures: The metrics of the whole set.
        sets: {method: {metric: result}} of those.
        lacking: {metric: why it could not be computed and what mends that}.
        entries: What was measured, by image.
    """

    folder: Path
    protocol: dict[str, Any]
    averaging: str
    measures: dict[str, Measure]
    method: str
    means: dict[str, dict[str, float]]
    set_measures: dict[str, Measure]
    sets: dict[str, dict[str, SetResult]]
    lacking: dict[str, str]
    entries: dict[Key, Entry]

    @property
    def name(self) -> str:
        """The name of the run that the validation belongs to."""
        return self.folder.parent.parent.name if self.folder.parent.name == "validation" else self.folder.name


def find_validation(path: Path) -> Path:
    """The validation folder that `path` means: itself, or the newest one of a run folder.

    Raises:
        DataError: Neither.
    """
    if (path / RESULTS).is_file():
        return path
    found = [*path.glob(f"*/{RESULTS}"), *path.glob(f"validation/*/{RESULTS}")]
    if not found:
        state = "no such folder" if not path.is_dir() else f"found neither {RESULTS} nor validation/*/{RESULTS} in it"
        raise DataError(
            f"{path}: {state}; expected a run folder with a validation, or a validation folder. "
            "Make one by `ttrd3 val OPTIONS.yml`."
        )
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file.parent.name)).parent


def read_run(path: Path) -> Run:
    """Read the validation that `path` means (see `find_validation`).

    Raises:
        DataError: No validation there, or files that no validation wrote; names the file.
    """
    folder = find_validation(path)
    document = _read_results(folder / RESULTS)
    columns, entries = _read_images(folder / PER_IMAGE)
    methods = sorted({method for entry in entries.values() for method in entry.values} - {BASELINE, AGAINST})
    if not methods:
        raise DataError(f"{folder / PER_IMAGE}: found no method besides {BASELINE}. Validate again by `ttrd3 val`.")
    protocol, sets = document["protocol"], document["sets"]
    described = protocol.get("metrics", {})
    return Run(
        folder=folder,
        protocol={name: value for name, value in protocol.items() if name not in PROTOCOL_OF_TABLES},
        averaging=str(protocol.get("averaging", "")),
        measures={name: _measure(name, described.get(name, {})) for name in columns},
        method=methods[0],
        means={method: document[method] for method in (BASELINE, methods[0]) if method in document},
        set_measures={name: _measure(name, described.get(name, {})) for name in sets.get(methods[0], {})},
        sets=sets,
        lacking=document["lacking"],
        entries=entries,
    )


def read_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """Read several validations, at most 26: {name that tells them apart: run}, in the order given.

    A name is the run's; where several validations of one run (or runs of one name) are given, what differs in their
    protocols follows it: "ucmerced, reference none".
    """
    if len(paths) > MOST:
        raise DataError(f"found {len(paths)} runs, expected at most {MOST}. Show fewer at a time.")
    runs = [read_run(path) for path in paths]
    named: dict[str, Run] = {}
    for run in runs:
        alike = [other.protocol for other in runs if other.name == run.name]
        keys = [key for key in run.protocol if any(other.get(key) != run.protocol[key] for other in alike)]
        name = ", ".join([run.name, *(f"{key.replace('_', ' ')} {run.protocol[key]}" for key in keys)])
        again = sum(known == name or known.startswith(f"{name} (") for known in named)
        named[f"{name} ({again + 1})" if again else name] = run
    return named


def common_images(runs: Sequence[Run]) -> list[Key]:
    """The images that every run has measured, sorted.

    Raises:
        DataError: There is none.
    """
    common = set.intersection(*(set(run.entries) for run in runs))
    if not common:
        raise DataError(
            f"{runs[0].folder} and {runs[-1].folder}: these validations have no image in common. "
            "Give validations of the same data and split."
        )
    return sorted(common)


def letters(runs: Mapping[str, Run]) -> dict[str, str]:
    """{name: "A", "B", ...}: short names where there is no room for those that tell runs apart."""
    return dict(zip(runs, string.ascii_uppercase, strict=False))


def _rounded(value: float, decimals: int, sign: str) -> str:
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # a rounded -0.0 would print as "-0.00"


def _measure(name: str, protocol: dict[str, Any]) -> Measure:
    """A metric's name is that of the registry, or that with "_" and a variant behind it."""
    known = [kind for kind in METRICS if name == kind or name.startswith(f"{kind}_")]
    metric = METRICS[max(known, key=len)] if known else None
    return Measure(
        name,
        getattr(metric, "unit", ""),
        getattr(metric, "higher_is_better", None),
        getattr(metric, "decimals", 4),
        dict(protocol),
    )


def _read_results(path: Path) -> dict[str, Any]:
    """The content of results.json, with "sets" and "lacking" out of its statistics."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        statistics = document.get("statistics", {})
        sets = {
            method: {name: SetResult(found["value"], found["warning"]) for name, found in values.items()}
            for method, values in statistics.get("sets", {}).items()
        }
        document["protocol"].get("metrics", {}).keys()
        return document | {"sets": sets, "lacking": statistics.get("not_available", {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, f"{type(error).__name__}: {error}") from None


def _read_images(path: Path) -> tuple[list[str], dict[Key, Entry]]:
    """The metric columns, and an entry per image."""
    entries: dict[Key, Entry] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name for name in reader.fieldnames or () if name not in OWN_COLUMNS]
            for row in reader:
                entry = entries.setdefault((row["class"], row["image"]), Entry(row["reference"], {}))
                # An empty cell: the metric could not be had for this image.
                entry.values[row["method"]] = {name: float(row[name]) for name in columns if row[name]}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _foreign(path, error) from None
    values = (value for entry in entries.values() for found in entry.values.values() for value in found.values())
    if not entries or not all(map(math.isfinite, values)):
        raise _foreign(path, "no rows, or values that are not finite")
    return columns, entries


def _foreign(path: Path, reason: object) -> DataError:
    return DataError(f"{path}: not what a validation writes ({reason}). Validate again by `ttrd3 val`.")
