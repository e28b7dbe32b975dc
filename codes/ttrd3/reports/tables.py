"""Results as text: a table for the terminal and the same in Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttrd3.metrics import Metric, SetMetric, SetValue
from ttrd3.reports.statistics import PairedTest

WIDTH = 100
CELL, CHANGE = 9, 9  # columns for a value and for its difference to the baseline
SET_CELL = 26  # columns for the value of a set metric with its spread and mark
MARK = "(!)"  # beside a number that must not be quoted as it is
INTERVAL = "  95%"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Group:
    """A class, or all images: how many, and per method and metric the mean and its interval, baseline first."""

    name: str
    images: int
    means: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval | None]]


@dataclass(frozen=True)
class Findings:
    """Everything that a table shows.

    Attributes:
        groups: The classes, then all images.
        metrics: The per-image metrics.
        baseline: The method that differences are to; None: no differences.
        protocol: What decides the numbers; "averaging" and "metrics" are shown in words of their own.
        paired: {method: {metric: against the baseline over all images}}.
        sets: The set metrics.
        set_values: {method: {set metric: what was found}}.
        unavailable: {metric: why it is not shown, and what mends that}.
    """

    groups: Sequence[Group]
    metrics: Sequence[Metric]
    baseline: str | None
    protocol: Mapping[str, Any]
    paired: Mapping[str, Mapping[str, PairedTest]] = field(default_factory=dict)
    sets: Sequence[SetMetric] = ()
    set_values: Mapping[str, Mapping[str, SetValue]] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


def terminal(found: Findings) -> str:
    """Every group's methods under one another, differences beside the values; at most `WIDTH` columns, ASCII.

    Metrics that do not fit side by side follow in a further table; names that are too long are cut.
    """
    name_width = min(max(len(_label(group.name)) for group in found.groups), 24)
    method_width = min(max(len("method"), *(len(method) for method in found.groups[-1].means)), 16)
    fit = (WIDTH - name_width - len("  images  ") - method_width) // (2 + CELL + CHANGE)
    parts = [found.metrics[start : start + fit] for start in range(0, len(found.metrics), fit)]
    blocks = [_block(found, shown, name_width, method_width) for shown in parts]
    if found.sets:
        blocks.append(_set_block(found, method_width))
    notes = (textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in _notes(found))
    return "\n\n".join(blocks) + "\n" * bool(blocks) + "\n".join(notes) + "\n"


def markdown(found: Findings) -> str:
    """The same numbers in Markdown; the group of all images in bold."""
    tables = []
    if found.metrics:
        tables.append(_markdown_means(found))
    if found.sets:
        lines = [_line(["method", *(_head(metric) for metric in found.sets)])]
        lines.append(_line(["---"] + ["---:"] * len(found.sets)))
        for method, values in found.set_values.items():
            lines.append(_line([method, *(_set_cell(metric, values[metric.name]) for metric in found.sets)]))
        tables.append("\n".join(lines))
    notes = "\n".join(f"- {note}" for note in _notes(found))
    return "\n\n".join([*tables, notes]) + "\n"


def _block(found: Findings, shown: Sequence[Metric], name_width: int, method_width: int) -> str:
    heads = "".join(f"  {_head(metric)[: CELL + CHANGE]:>{CELL}}".ljust(2 + CELL + CHANGE) for metric in shown)
    lines = [f"{'class':{name_width}}  images  {'method':{method_width}}{heads}"]
    rule = "-" * (name_width + len("  images  ") + method_width + len(shown) * (2 + CELL + CHANGE))
    for group in found.groups:
        last = group is found.groups[-1]
        if group is found.groups[0] or last:
            lines.append(rule)
        for index, method in enumerate(group.means):
            first = f"{_cut(_label(group.name), name_width):{name_width}}  {group.images:6d}  "
            stub = first if index == 0 else " " * len(first)
            pairs = _cells(group, method, shown, found.baseline)
            cells = "".join(f"  {value:>{CELL}}{change:>{CHANGE}}" for value, change in pairs)
            lines.append(f"{stub}{_cut(method, method_width):{method_width}}{cells}")
            if last and group.images > 1:
                spans = "".join(f"  {span:>{CELL + CHANGE}}" for span in _intervals(group, method, shown))
                lines.append(f"{' ' * len(first)}{INTERVAL:{method_width}}{spans}")
    return "\n".join([*(line.rstrip() for line in lines), rule])


def _set_block(found: Findings, method_width: int) -> str:
    """Set metrics under one another, a line a method and metric: there are few, and they do not belong to classes."""
    names = max(len("all images"), *(len(_head(metric)) for metric in found.sets))
    lines = [f"{'all images':{names}}  {'method':{method_width}}"]
    rule = "-" * (names + 2 + method_width + 2 + SET_CELL)
    lines.append(rule)
    for metric in found.sets:
        for index, (method, values) in enumerate(found.set_values.items()):
            stub = _head(metric) if index == 0 else ""
            cell = _set_cell(metric, values[metric.name])
            lines.append(f"{stub:{names}}  {_cut(method, method_width):{method_width}}  {cell:>{SET_CELL}}")
    return "\n".join([*lines, rule])


def _markdown_means(found: Findings) -> str:
    head = ["class", "images", "method"]
    head += [text for metric in found.metrics for text in (_head(metric), "difference")]
    lines = [_line(head), _line(["---", "---:", "---"] + ["---:"] * (2 * len(found.metrics)))]
    for group in found.groups:
        last = group is found.groups[-1]
        name = _label(group.name).replace("|", "\\|")
        for index, method in enumerate(group.means):
            first = [name, str(group.images)] if index == 0 else ["", ""]
            cells = [text for pair in _cells(group, method, found.metrics, found.baseline) for text in pair]
            texts = [*first, method, *cells]
            lines.append(_line([f"**{text}**" if text and last else text for text in texts]))
            if last and group.images > 1:
                spans = [text for span in _intervals(group, method, found.metrics) for text in (span, "")]
                lines.append(_line(["", "", "95 % interval", *spans]))
    return "\n".join(lines)


def _cells(group: Group, method: str, metrics: Sequence[Metric], baseline: str | None) -> list[tuple[str, str]]:
    """(value, signed difference to the baseline) per metric; the baseline itself has no difference."""
    cells = []
    for metric in metrics:
        value = group.means[method][metric.name]
        text = ""
        if baseline not in (None, method):
            text = _signed(value - group.means[baseline][metric.name], metric.decimals)
        cells.append((f"{value:.{metric.decimals}f}", text))
    return cells


def _intervals(group: Group, method: str, metrics: Sequence[Metric]) -> list[str]:
    spans = ((metric.decimals, group.intervals[method][metric.name]) for metric in metrics)
    return [f"{low:.{decimals}f} .. {high:.{decimals}f}" for decimals, (low, high) in spans]


def _set_cell(metric: SetMetric, value: SetValue) -> str:
    if value.value is None:
        return f"none {MARK}"
    spread = "" if value.spread is None else f" +- {value.spread:.{metric.decimals}f}"
    return f"{value.value:.{metric.decimals}f}{spread}" + (f" {MARK}" if value.warning else "")


def _notes(found: Findings) -> list[str]:
    """What must stand beneath every table so that its numbers can be compared with others."""
    images = found.groups[-1].images
    to = f"; differences are to {found.baseline}" if found.baseline else ""
    notes = [f"{images} images; {found.protocol['averaging']}{to}."]
    if images > 1 and found.metrics:
        notes.append(f"{INTERVAL.strip()} interval: {found.protocol['intervals']}.")
    for method, tests in found.paired.items():
        by_name = {metric.name: metric for metric in found.metrics}
        notes += [_paired(method, found.baseline, by_name[name], test) for name, test in tests.items()]
    notes += _protocols([*found.metrics, *found.sets])
    warnings = {name: value.warning for values in found.set_values.values() for name, value in values.items()}
    notes += [f"{MARK} {name}: {warning}" for name, warning in warnings.items() if warning]
    notes += [f"{names}: not available: {reason}" for reason, names in _same(found.unavailable).items()]
    shown = ("averaging", "intervals", "metrics")
    extra = {key: value for key, value in found.protocol.items() if key not in shown}
    return [*notes, f"Run: {_pairs(extra)}."] if extra else notes


def _protocols(metrics: Sequence[Metric | SetMetric]) -> list[str]:
    """How each metric measures, and which way is better; metrics that measure alike share a line."""
    texts = {metric.name: _pairs(metric.protocol()) for metric in metrics}
    better = {metric.name: "higher" if metric.higher_is_better else "lower" for metric in metrics}
    lines = []
    for text, names in _same(texts).items():
        ways = {way: ", ".join(n for n in names.split(", ") if better[n] == way) for way in ("higher", "lower")}
        ways = {way: of for way, of in ways.items() if of}
        ends = [f"{way} is better" + (f" ({of})" if len(ways) > 1 else "") for way, of in ways.items()]
        lines.append(f"{names}: {text}; {', '.join(ends)}.")
    return lines


def _same(texts: Mapping[str, str]) -> dict[str, str]:
    """{name: text} -> {text: names that have it}, in order."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return {text: ", ".join(of) for text, of in names.items()}


def _paired(method: str, baseline: str | None, metric: Metric, test: PairedTest) -> str:
    span = ""
    if test.low is not None and test.high is not None:
        span = f" ({_signed(test.low, metric.decimals)} .. {_signed(test.high, metric.decimals)})"
    better = test.larger if metric.higher_is_better else test.smaller
    return (
        f"{method} - {baseline}, {metric.name}: {_signed(test.difference, metric.decimals)}{span}, "
        f"better on {better} of {test.images} images, Wilcoxon p = {test.p_value:.2g}."
    )


def _signed(value: float, decimals: int) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0, which would print as "-0.00".
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _head(metric: Metric | SetMetric) -> str:
    return f"{metric.name} ({metric.unit})" if metric.unit else metric.name


def _label(name: str) -> str:
    return name or "(no class)"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
