"""The pictures of a report, image by image, for one or several runs; and the scales of their maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttrd3.errors import DataError
from ttrd3.reports.material import Describe, Material, Pictures, drawing
from ttrd3.reports.packing import Item
from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import Key, Run, letters

SCALES = (8, 16, 32, 64, 128, 255)  # grey levels at which the colours of maps may end
SPOT = 16  # side of the squares among which the loupe's first place is chosen
COVERED = 0.99  # of the pixels lie below that end


@dataclass(frozen=True)
class View:
    """Something to look at.

    Attributes:
        name: Of the stored picture; "up" and what begins with "error" is computed by the page.
        label: What people read.
        group: "Images", "Error |SR - HR|" or "Reference use".
        run: Number of the run that it belongs to, if any.
    """

    name: str
    label: str
    group: str
    run: int | None = None


class Gallery:
    """The pictures of the images `keys`.

    Args:
        runs: By the names that tell them apart.
        keys: Images that all of them have.
        data: Where the data lies now; None: where each run found it.
        describe: See `Material`.

    Attributes:
        views: What each image can be looked at as, in the order of showing.
        spots: {number of the image: where bicubic lost most, (x, y)}; filled by `items`.
        scales: {"error", "use": grey levels at which the map's colours end}; filled by `items`.
    """

    def __init__(
        self, runs: Mapping[str, Run], keys: Sequence[Key], data: Path | None = None, describe: Describe | None = None
    ):
        self.runs = runs
        self.keys = keys
        self._material = [Material(run, data, describe) for run in runs.values()]
        self._reference_of = _references([*runs.values()])
        self.views = self._views()
        self.spots: dict[int, tuple[int, int]] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self.scales: dict[str, int] = {}

    def items(self) -> Iterator[Item]:
        """Every picture that the page stores; at the end the scales of the maps are known.

        Raises:
            DataError: A picture is missing or not the one that was validated; runs show different pixels.
        """
        counts = {"error": np.zeros(256, dtype=np.int64), "use": np.zeros(256, dtype=np.int64)}
        for number, key in enumerate(self.keys):
            found = [material[key] for material in self._material]
            first = found[0]
            self._require_same_hr(key, found)
            self.spots[number] = _most_lost(first)
            self.sizes[number] = (first.hr.shape[1], first.hr.shape[0])
            for shown in (first.up, *(pictures.sr for pictures in found)):
                counts["error"] += np.bincount(difference(shown, first.hr).ravel(), minlength=256)
            yield number, "lr", "lr", first.lr
            yield number, "hr", "hr", first.hr
            for index, pictures in enumerate(found):
                yield number, f"sr{index}", "sr", pictures.sr
                if self._reference_of[index] == index and pictures.reference is not None:
                    yield number, f"reference{index}", "reference", pictures.reference
                if pictures.without_reference is not None:
                    use = difference(pictures.sr, pictures.without_reference)
                    counts["use"] += np.bincount(use.ravel(), minlength=256)
                    yield number, f"use{index}", "use", use
        self.scales = {name: _scale(histogram) for name, histogram in counts.items()}

    def describe(self, number: int) -> dict[str, Any]:
        """What the page knows of one image besides its pictures."""
        class_name, image = self.keys[number]
        entries = [run.entries[self.keys[number]] for run in self.runs.values()]
        return {
            "name": image,
            "class": class_name,
            "size": self.sizes[number],
            "spot": self.spots[number],
            "references": [entry.reference for entry in entries],
            "bicubic": entries[0].values.get(BASELINE, {}),
            "runs": [entry.values.get(run.method, {}) for entry, run in zip(entries, self.runs.values(), strict=True)],
        }

    def _views(self) -> list[View]:
        single = len(self.runs) == 1
        names = ["SR" if single else f"SR {letter}" for letter in letters(self.runs).values()]
        views = [View("lr", "LR", "Images"), View("up", "Bicubic", "Images")]
        views += [View(f"sr{index}", name, "Images", index) for index, name in enumerate(names)]
        owners = sorted({owner for owner in self._reference_of if owner is not None})
        for owner in owners:
            label = "Reference" if len(owners) == 1 else f"Reference, {names[owner][-1]}"
            views.append(View(f"reference{owner}", label, "Images", owner))
        views += [View("hr", "HR", "Images"), View("error-up", "Error of bicubic", "Error")]
        views += [View(f"error-sr{index}", f"Error of {name}", "Error", index) for index, name in enumerate(names)]
        for index, material in enumerate(self._material):
            if material.twin is not None:
                label = "Reference use" + ("" if single else f", {names[index][-1]}")
                views.append(View(f"use{index}", label, "Reference use", index))
        return views

    def _require_same_hr(self, key: Key, found: Sequence[Pictures]) -> None:
        for name, pictures in zip(self.runs, found, strict=True):
            if not np.array_equal(pictures.hr, found[0].hr):
                raise DataError(
                    f"{key[1]}: {name} and {next(iter(self.runs))} were validated on different pictures of this name. "
                    "Put runs into one report that share data, split, crop and seed."
                )


def choose(run: Run, keys: Sequence[Key], count: int) -> list[Key]:
    """At most `count` images, evenly spread over their order by the run's gain in its first metric, ends included."""
    if len(keys) <= count:
        return [*keys]
    metric = next(iter(run.measures), None)  # None: only sets were measured, and all gains are alike

    def gain(key: Key) -> float:
        values = run.entries[key].values
        own, base = (values.get(method, {}).get(metric) for method in (run.method, BASELINE))
        return 0.0 if own is None or base is None else own - base

    ranked = sorted(keys, key=lambda key: (gain(key), key))
    places = np.linspace(0, len(ranked) - 1, count).round().astype(int)
    return sorted(ranked[place] for place in places)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over the channels of |a - b|, rounded half up: two uint8 (H, W, 3) -> uint8 (H, W), grey levels."""
    total = np.abs(a.astype(np.int16) - b).sum(axis=2)
    return ((2 * total + 3) // 6).astype(np.uint8)


def _most_lost(pictures: Pictures) -> tuple[int, int]:
    """The middle (x, y) of the square of `SPOT` pixels where bicubic and HR differ most; of equals the first."""
    lost = difference(pictures.up, pictures.hr)
    height, width = (max(1, side // SPOT) for side in lost.shape)
    squares = lost[: height * SPOT, : width * SPOT]
    sums = np.add.reduceat(
        np.add.reduceat(squares, range(0, len(squares), SPOT), 0, np.int64), [*range(0, squares.shape[1], SPOT)], 1
    )
    y, x = np.unravel_index(sums.argmax(), sums.shape)
    return min(int(x) * SPOT + SPOT // 2, lost.shape[1] - 1), min(int(y) * SPOT + SPOT // 2, lost.shape[0] - 1)


def _references(runs: Sequence[Run]) -> list[int | None]:
    """For each run the number of the first run that draws the same references; None without references."""
    drawn = [None if run.protocol.get("reference") in (None, "none") else drawing(run) for run in runs]
    return [None if way is None else drawn.index(way) for way in drawn]


def _scale(histogram: np.ndarray) -> int:
    """The smallest of `SCALES` below which `COVERED` of the pixels lie."""
    if not histogram.any():
        return SCALES[0]
    level = int(np.searchsorted(np.cumsum(histogram), COVERED * histogram.sum()))
    return next(scale for scale in SCALES if scale >= level)
