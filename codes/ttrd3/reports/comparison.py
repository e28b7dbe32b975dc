"""Several runs against the first: differences on the images they share, tested in pairs, as text for the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean

from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import Key, Measure, Run, common_images, letters
from ttrd3.reports.statistics import PairedTest, paired_test

WIDTH = 100
# What of a protocol decides which pixels are measured; the last two are of `ttrd3 evaluate`.
PICTURES = ("data", "split", "crop", "augmentation", "hr", "mask")
SAME_PICTURE = 1e-6  # bicubic depends on the data and the protocol alone: beyond this, one of them is another


def column(run: Run, method: str, metric: str, images: Sequence[Key]) -> dict[Key, float]:
    """The values of one metric for the images that have one."""
    found = {key: run.entries[key].values.get(method, {}).get(metric) for key in images}
    return {key: value for key, value in found.items() if value is not None}


def against(mine: Mapping[Key, float], first: Mapping[Key, float]) -> PairedTest | None:
    """Compare on the images that both have: the difference is mine - first; None where there is none."""
    images = [key for key in mine if key in first]
    return paired_test([first[key] for key in images], [mine[key] for key in images]) if images else None


def change_text(measure: Measure, test: PairedTest) -> tuple[str, str]:
    """A difference and its 95% interval: "+0.012", "[-0.003, +0.027]" (empty for a single image)."""
    interval = ""
    if test.low is not None and test.high is not None:
        interval = f"[{measure.fine(test.low)}, {measure.fine(test.high)}]"
    return measure.fine(test.difference), interval


def shared_measures(runs: Sequence[Run]) -> list[Measure]:
    """The metrics that every run has, in the order of the first run."""
    return [m for m in runs[0].measures.values() if all(m.name in run.measures for run in runs)]


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """Where the runs differ in what should be alike for a comparison; empty if nowhere."""
    (first_name, first), *others = runs.items()
    found = []
    for name, run in others:
        pair = f"{name} against {first_name}"
        for key in {**first.protocol, **run.protocol}:
            if key in PICTURES:
                a, b = first.protocol.get(key), run.protocol.get(key)
                if a != b:
                    found.append(f"{pair}: {key} differs ({_shown(b)}; {_shown(a)})")
        for measure in shared_measures([first, run]):
            theirs = run.measures[measure.name].protocol
            differing = [key for key in {**measure.protocol, **theirs} if measure.protocol.get(key) != theirs.get(key)]
            if differing:
                found.append(f"{pair}: {measure.name} is measured with another {', '.join(differing)}")
        only = [m for m in {**first.measures, **run.measures} if m not in first.measures or m not in run.measures]
        if only:
            found.append(f"{pair}: not measured in both, so left out: {', '.join(only)}")
        other_pictures = _images_whose_bicubic_differs(first, run)
        if other_pictures:
            found.append(
                f"{pair}: bicubic differs on {len(other_pictures)} images of one name, e.g. {other_pictures[0][1]}: "
                "not the same pictures, or not the same metric"
            )
    return found


def _images_whose_bicubic_differs(first: Run, run: Run) -> list[Key]:
    def differs(key: Key) -> bool:
        a, b = (other.entries[key].values.get(BASELINE, {}) for other in (first, run))
        return any(abs(a[name] - b[name]) > SAME_PICTURE * max(1, abs(a[name])) for name in a if name in b)

    return [key for key in sorted(first.entries.keys() & run.entries.keys()) if differs(key)]


def compare(runs: Mapping[str, Run], *, per_class: bool = False) -> str:
    """The comparison as text of at most 100 columns; the first run is what the others are compared with.

    Raises:
        DataError: No image in common.
    """
    images = common_images([*runs.values()])
    short = letters(runs)
    lines = [f"{letter}  {name}" for name, letter in short.items()]
    counts = ", ".join(f"{short[name]} {len(run.entries)}" for name, run in runs.items())
    lines += ["", f"{len(images)} images in common (of {counts}); differences are to A.", ""]
    for measure in shared_measures([*runs.values()]):
        lines += [*_block(measure, runs, images), ""]
        if per_class:
            lines += [*_classes(measure, runs, images), ""]
    lines += [
        "95%: bootstrap interval of the mean difference. p: two-sided Wilcoxon signed-rank test.",
        *(
            f"{measure.name}: {', '.join(f'{key} {value}' for key, value in measure.protocol.items())}"
            for measure in shared_measures([*runs.values()])
        ),
    ]
    wrapped = [textwrap.fill(line, WIDTH, subsequent_indent="   ") if len(line) > WIDTH else line for line in lines]
    return "\n".join(wrapped) + "\n"


def _block(measure: Measure, runs: Mapping[str, Run], images: list[Key]) -> list[str]:
    """The rows of one metric: bicubic, the first run, the others."""
    direction = {True: "higher is better", False: "lower is better", None: "direction unknown"}
    rule = "-" * 82
    lines = [
        f"{measure.head}, {direction[measure.higher_is_better]}",
        f"{'':10}{'mean':>10}{'difference':>13}{'95%':>12}{'':>11}{'p':>9}{'better on':>17}",
        rule,
    ]
    first = next(iter(runs.values()))
    own = column(first, first.method, measure.name, images)
    if not own:
        return [*lines, "no values on these images", rule]
    rows = {BASELINE: column(first, BASELINE, measure.name, images)}
    short = letters(runs)
    rows |= {short[name]: column(run, run.method, measure.name, images) for name, run in runs.items()}
    for label, values in rows.items():
        if label == "A":
            lines.append(f"{label:10}{measure.text(fmean(own.values())):>10}")
        elif test := against(values, own):
            change, interval = change_text(measure, test)
            better = {True: test.larger, False: test.smaller, None: None}[measure.higher_is_better]
            share = "" if better is None else f"{better} of {test.images}"
            mean = measure.text(fmean(values[key] for key in values if key in own))
            lines.append(f"{label:10}{mean:>10}{change:>13}{interval:>23}{p_text(test.p_value):>9}{share:>17}")
    return [*lines, rule]


def _classes(measure: Measure, runs: Mapping[str, Run], images: list[Key]) -> list[str]:
    """A row per class: the mean of A, and the differences of bicubic and the others to it."""
    (_, first), *others = runs.items()
    short = letters(runs)
    shown = [(BASELINE, first, BASELINE), *((short[name], run, run.method) for name, run in others)]
    width = min(max(len(name or "(no class)") for name, _ in images), 30)
    lines = [f"{measure.head:{width}.{width}}  images{'A':>11}" + "".join(f"{label:>11}" for label, _, _ in shown)]
    for name in sorted({name for name, _ in images}):
        inside = [key for key in images if key[0] == name]
        own = column(first, first.method, measure.name, inside)
        cells = []
        for _, run, method in shown:
            values = column(run, method, measure.name, inside)
            both = [values[key] - own[key] for key in values if key in own]
            cells.append(f"{measure.text(fmean(both), signed=True) if both else '':>11}")
        mean = measure.text(fmean(own.values())) if own else ""
        lines.append(f"{(name or '(no class)'):{width}.{width}}  {len(inside):6d}{mean:>11}" + "".join(cells))
    return lines


def p_text(p: float) -> str:
    """ "0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
