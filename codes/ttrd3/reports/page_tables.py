"""The tables of the HTML report that need no script: numbers, the paper's Table II, protocols."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from statistics import fmean

from ttrd3.reports import paper
from ttrd3.reports.comparison import against, change_text, column, p_text, shared_measures
from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import Key, Measure, Run, letters
from ttrd3.reports.statistics import bootstrap_interval

DIRECTIONS = {True: " &uarr;", False: " &darr;", None: ""}


def numbers(runs: Mapping[str, Run], images: Sequence[Key], warned: Sequence[str]) -> str:
    """Every metric's mean with its 95% interval, the gain over bicubic, and the test against the first run."""
    first = next(iter(runs.values()))
    measures = shared_measures([*runs.values()])
    sets = _set_values(runs, images)
    heads = [f"{escape(m.head)}{DIRECTIONS[m.higher_is_better]}" for m in [*measures, *sets]]
    rows: list[tuple[str, list[str], str]] = []
    titles = titled(runs)
    for label, run, method in [(BASELINE, first, BASELINE), *((titles[name], r, r.method) for name, r in runs.items())]:
        cells = []
        for measure in measures:
            cells.append(_cell(measure, run, method, None if run is first else first, images))
        cells += [_set_cell(measure, run, method) for measure in sets]
        rows.append((escape(label), cells, ""))
    notes = [
        f"{len(images)} images; mean over images and its gain over bicubic, beneath the mean's 95% bootstrap interval."
    ]
    if len(runs) > 1:
        notes.append(
            "The third line is the mean difference to A on the same images with its 95% interval; "
            "p: two-sided Wilcoxon signed-rank test."
        )
    if sets:
        notes.append(f"{escape(', '.join(m.name for m in sets))}: of the whole set, not a mean over images.")
    for title, run in zip(titles.values(), runs.values(), strict=True):
        notes += [
            f"{escape(title)}: {escape(name)} is not available. {escape(why)}" for name, why in run.lacking.items()
        ]
    notes += [f"<strong>Not alike:</strong> {escape(text)}." for text in warned]
    return _table(["", *heads], rows) + "".join(f'<p class="note">{note}</p>' for note in notes)


def titled(runs: Mapping[str, Run]) -> dict[str, str]:
    """{name: "A  name"}; a single run needs no letter."""
    return {name: name if len(runs) == 1 else f"{letter}  {name}" for name, letter in letters(runs).items()}


def _cell(measure: Measure, run: Run, method: str, first: Run | None, images: Sequence[Key]) -> str:
    values = column(run, method, measure.name, images)
    if not values:
        return "&ndash;"
    mean = fmean(values.values())
    text = f"<b>{measure.text(mean)}</b>"
    base = column(run, BASELINE, measure.name, images)
    if method != BASELINE and base.keys() == values.keys():
        text += f" {measure.text(mean - fmean(base.values()), signed=True)}"
    if len(values) > 1:
        low, high = bootstrap_interval([*values.values()])
        text += f"<small>[{measure.text(low)}, {measure.text(high)}]</small>"
    test = None if first is None else against(values, column(first, first.method, measure.name, images))
    if test is not None:
        change, interval = change_text(measure, test)
        text += f"<small>{' '.join([change, interval]).strip()}, p {p_text(test.p_value)}</small>"
    return text


def _set_values(runs: Mapping[str, Run], images: Sequence[Key]) -> list[Measure]:
    """Metrics of a whole set, such as FID; only where every run was measured on these images and no others."""
    if any(len(run.entries) != len(images) for run in runs.values()):
        return []
    return [*{name: measure for run in runs.values() for name, measure in run.set_measures.items()}.values()]


def _set_cell(measure: Measure, run: Run, method: str) -> str:
    found = run.sets.get(method, {}).get(measure.name)
    if found is None or found.value is None:
        return "&ndash;"
    return measure.text(found.value) + (f"<small>{escape(found.warning)}</small>" if found.warning else "")


def beside_the_paper(runs: Mapping[str, Run]) -> str:
    """What keeps the numbers from being compared, then Table II with the runs among its rows."""
    found = next((dataset for run in runs.values() if (dataset := paper.dataset_of(run))), None)
    reasons = list(
        dict.fromkeys(text for run in runs.values() for text in paper.differences(run, paper.dataset_of(run)))
    )
    if reasons:
        listed = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
        verdict = f"<strong>Not to be compared number by number.</strong><ul>{listed}</ul>"
    else:
        verdict = "<strong>Comparable:</strong> the same metrics, and bicubic reaches what it reaches in the paper."
    shown = found or next(iter(paper.TABLE))
    options = "".join(
        f'<option value="{name}"{" selected" if name == shown else ""}>{name}</option>' for name in paper.TABLE
    )
    tables = "".join(
        f'<div data-dataset="{name}"{"" if name == shown else " hidden"}>{_paper_table(runs, name)}</div>'
        for name in paper.TABLE
    )
    return (
        f'<div class="beside"><div class="verdict">{verdict}</div><div>'
        f'<label class="inline">Data set of the paper <select id="dataset">{options}</select></label>{tables}'
        "</div></div>"
        '<p class="note">Table II of TTRD3 (arXiv:2504.13026), x4. PSNR in dB and SSIM: higher is better; LPIPS and '
        "FID: lower is better. Its numbers fit RGB, 8 bit, no border, a 7 x 7 SSIM window. Tinted rows were measured "
        "here.</p>"
    )


def _paper_table(runs: Mapping[str, Run], dataset: str) -> str:
    rows: list[tuple[str, list[str], str]] = []
    first = next(iter(runs.values()))
    for method, values in paper.TABLE[dataset].items():
        cells = [f"{value:.{decimals}f}" for value, decimals in zip(values, paper.COLUMNS.values(), strict=True)]
        rows.append((method, cells, "mark" if method == paper.OURS else ""))
        if method == paper.BICUBIC:
            rows.append(("Bicubic, here", _measured(first, BASELINE), "ours"))
    rows += [(f"{escape(titled(runs)[name])}, here", _measured(r, r.method), "ours") for name, r in runs.items()]
    return _table(["", *paper.COLUMNS], rows)


def _measured(run: Run, method: str) -> list[str]:
    found = paper.measured(run, method)
    return ["&ndash;" if found[c] is None else f"{found[c]:.{d}f}" for c, d in paper.COLUMNS.items()]


def about(entries: Mapping[str, str], runs: Mapping[str, Run]) -> str:
    """How the page was made, and each run's protocol."""
    parts = [_definitions(entries)]
    for name, run in runs.items():
        metrics = {
            f"{measure.head}": ", ".join(f"{key} {value}" for key, value in measure.protocol.items())
            for measure in [*run.measures.values(), *run.set_measures.values()]
        }
        protocol = {key.replace("_", " "): str(value) for key, value in run.protocol.items()}
        parts.append(f"<h3>Protocol of {escape(titled(runs)[name])}</h3>")
        parts.append(_definitions({**metrics, "averaging": run.averaging, **protocol, "folder": run.folder.name}))
    return "".join(parts)


def _definitions(entries: Mapping[str, str]) -> str:
    return (
        "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items()) + "</dl>"
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """A table of HTML cells: heads of the columns, then (head of the row, cells, class of the row)."""
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(
        f'<tr class="{kind}"><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
