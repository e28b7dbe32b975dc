"""Results as text: a table for the terminal and the same in Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttrd3.metrics import Metric

WIDTH = 100
CELL, CHANGE = 9, 9  # columns for a value and for its difference to the baseline


@dataclass(frozen=True)
class Group:
    """A class, or all images: how many, and {method: {metric: mean}} with the baseline first."""

    name: str
    images: int
    means: dict[str, dict[str, float]]


def terminal(groups: Sequence[Group], metrics: Sequence[Metric], baseline: str, protocol: Mapping[str, Any]) -> str:
    """Every group's methods under one another, differences beside the values; at most `WIDTH` columns, ASCII.

    Metrics that do not fit side by side follow in a further table; names that are too long are cut.
    """
    blocks = []
    name_width = min(max(len(_label(group.name)) for group in groups), 24)
    method_width = min(max(len("method"), *(len(method) for method in groups[-1].means)), 16)
    stub = name_width + len("  images  ") + method_width
    fit = (WIDTH - stub) // (2 + CELL + CHANGE)
    for start in range(0, len(metrics), fit):
        shown = metrics[start : start + fit]
        heads = "".join(f"  {_head(metric)[: CELL + CHANGE]:>{CELL}}".ljust(2 + CELL + CHANGE) for metric in shown)
        lines = [f"{'class':{name_width}}  images  {'method':{method_width}}{heads}"]
        rule = "-" * (stub + len(shown) * (2 + CELL + CHANGE))
        for group in groups:
            if group is groups[0] or group is groups[-1]:
                lines.append(rule)
            for index, method in enumerate(group.means):
                first = f"{_cut(_label(group.name), name_width):{name_width}}  {group.images:6d}  "
                cells = "".join(
                    f"  {value:>{CELL}}{change:>{CHANGE}}" for value, change in _cells(group, method, shown, baseline)
                )
                stub_text = first if index == 0 else " " * len(first)
                lines.append(f"{stub_text}{_cut(method, method_width):{method_width}}{cells}")
        blocks.append("\n".join([*(line.rstrip() for line in lines), rule]))
    notes = (textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in _notes(groups, metrics, baseline, protocol))
    return "\n\n".join(blocks) + "\n" + "\n".join(notes) + "\n"


def markdown(groups: Sequence[Group], metrics: Sequence[Metric], baseline: str, protocol: Mapping[str, Any]) -> str:
    """The same numbers as one Markdown table; the group of all images in bold."""
    head = ["class", "images", "method"] + [text for metric in metrics for text in (_head(metric), "difference")]
    lines = [_line(head), _line(["---", "---:", "---"] + ["---:"] * (2 * len(metrics)))]
    for group in groups:
        name = _label(group.name).replace("|", "\\|")
        for index, method in enumerate(group.means):
            first = [name, str(group.images)] if index == 0 else ["", ""]
            cells = [text for pair in _cells(group, method, metrics, baseline) for text in pair]
            texts = [*first, method, *cells]
            lines.append(_line([f"**{text}**" if text and group is groups[-1] else text for text in texts]))
    notes = [f"- {note}" for note in _notes(groups, metrics, baseline, protocol)]
    return "\n".join([*lines, "", *notes]) + "\n"


def _cells(group: Group, method: str, metrics: Sequence[Metric], baseline: str) -> list[tuple[str, str]]:
    """(value, signed difference to the baseline) per metric; the baseline itself has no difference."""
    cells = []
    for metric in metrics:
        value = group.means[method][metric.name]
        # Adding 0.0 turns a rounded -0.0 into 0.0, which would print as "-0.00".
        change = round(value - group.means[baseline][metric.name], metric.decimals) + 0.0
        text = "" if method == baseline else f"{change:+.{metric.decimals}f}"
        cells.append((f"{value:.{metric.decimals}f}", text))
    return cells


def _notes(groups: Sequence[Group], metrics: Sequence[Metric], baseline: str, protocol: Mapping[str, Any]) -> list[str]:
    """What must stand beneath every table so that its numbers can be compared with others."""
    notes = [f"{groups[-1].images} images; {protocol['averaging']}; differences are to {baseline}."]
    for metric in metrics:
        better = "higher" if metric.higher_is_better else "lower"
        notes.append(f"{metric.name}: {_pairs(metric.protocol())}; {better} is better.")
    extra = {key: value for key, value in protocol.items() if key not in ("averaging", "metrics")}
    return [*notes, f"Run: {_pairs(extra)}."] if extra else notes


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _head(metric: Metric) -> str:
    return f"{metric.name} ({metric.unit})" if metric.unit else metric.name


def _label(name: str) -> str:
    return name or "(no class)"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
