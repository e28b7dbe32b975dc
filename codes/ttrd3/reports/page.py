"""The HTML report: templates, numbers and pictures in one file that needs nothing else."""

import json
import logging
import re
import string
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from ttrd3 import __version__
from ttrd3.errors import UserError
from ttrd3.files import require_writable, write_text
from ttrd3.reports import page_tables
from ttrd3.reports.comparison import column, shared_measures, warnings
from ttrd3.reports.gallery import Gallery, choose
from ttrd3.reports.material import Describe
from ttrd3.reports.packing import KINDS, Packed, pack
from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import Key, Measure, Run, common_images, letters

logger = logging.getLogger(__name__)

SCRIPTS = ("pixels.js", "state.js", "stage.js", "loupe.js", "list.js", "main.js")  # one scope, in this order
TEXT_SHARE = 300_000  # characters of the page that are not pictures, generously


def write_report(
    runs: Mapping[str, Run],
    out: Path,
    *,
    images: int = 100,
    megabytes: float = 30,
    data: Path | None = None,
    describe: Describe | None = None,
) -> Packed:
    """Write the report of one or several validations to `out`, whole or not at all.

    Args:
        runs: By the names that tell them apart (`read_runs`).
        out: The HTML file.
        images: How many to show at most; of more they are chosen evenly from the worst to the best gain.
        megabytes: How large the file may be; decides how exactly pictures are stored.
        data: Where the data lies now; None: where each validation found it.
        describe: Gives the descriptor of the index that references were retrieved from; None knows only that which
            needs no weights.

    Returns:
        How the pictures were stored.

    Raises:
        UserError: Data or restored images are gone or changed, runs without a common image, no room.
    """
    require_writable(out.parent, "--out")
    first = next(iter(runs.values()))
    common = common_images([*runs.values()])
    gallery = Gallery(runs, choose(first, common, images), data, describe)
    budget = int(megabytes * 1e6) - TEXT_SHARE - 400 * len(common)
    if budget <= 0:
        raise UserError(f"--megabytes: found {megabytes:g}, expected more. 30 hold 100 images of 256 x 256 well.")
    packed = pack(gallery.items, budget)
    write_text(out, _page(gallery, packed, common))
    return packed


def _page(gallery: Gallery, packed: Packed, common: list[Key]) -> str:
    runs = gallery.runs
    first = next(iter(runs.values()))
    pictures = (
        f'<script type="text/plain" id="picture-{number}-{name}">{uri}</script>'
        for (number, name), uri in packed.data.items()
    )
    parts = {
        "title": escape(f"{' | '.join(runs)} - TTRD3 report"),
        "heading": "TTRD3 report",
        "lede": _lede(runs, common),
        "numbers": page_tables.numbers(runs, common, warnings(runs)),
        "paper": page_tables.beside_the_paper(runs),
        "about": page_tables.about(_about(gallery, packed, common), runs),
        "style": _template("report.css"),
        "script": "\n".join(_template(name) for name in SCRIPTS),
        # "<" would let a name end the script element that holds the data
        "data": json.dumps(_data(gallery, common, first), allow_nan=False).replace("<", "\\u003c"),
        "pictures": "\n".join(pictures),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place.group(1)], _template("report.html"))


def _template(name: str) -> str:
    return (files("ttrd3.reports") / "page" / name).read_text(encoding="utf-8")


def _data(gallery: Gallery, common: list[Key], first: Run) -> dict[str, Any]:
    """What the scripts read."""
    runs = [*gallery.runs.values()]
    measures = [_measure(measure) for measure in shared_measures(runs)]
    rows = []
    for name in sorted({name for name, _ in common}):
        inside = [key for key in common if key[0] == name]
        sources = [(first, BASELINE), *((run, run.method) for run in runs)]
        rows.append(
            {
                "name": name,
                "images": len(inside),
                "means": [
                    {m["name"]: _mean(column(run, method, m["name"], inside)) for m in measures}
                    for run, method in sources
                ],
            }
        )
    return {
        "runs": [*letters(gallery.runs).values()] if len(runs) > 1 else ["SR"],
        "measures": measures,
        "views": [{"name": v.name, "label": v.label, "group": v.group} for v in gallery.views],
        "scales": gallery.scales,
        "images": [gallery.describe(number) for number in range(len(gallery.keys))],
        "classes": {"metrics": measures, "rows": rows},
    }


def _measure(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "unit": measure.unit,
        "higher": measure.higher_is_better,
        "decimals": measure.decimals,
    }


def _mean(values: Mapping[Key, float]) -> float | None:
    return fmean(values.values()) if values else None


def _lede(runs: Mapping[str, Run], common: list[Key]) -> str:
    """One line: what was validated on what, and the first metrics of the first run."""
    first = next(iter(runs.values()))
    data = Path(str(first.protocol.get("data", ""))).name
    named = ", ".join(f"<b>{escape(title)}</b>" for title in page_tables.titled(runs).values())
    text = f"{named} on {len(common)} images of {escape(data)}, split {escape(str(first.protocol.get('split', '')))}"
    if len(runs) > 1:
        return f"{text}."
    gains = []
    for measure in [*first.measures.values()][:2]:
        own, base = (column(first, method, measure.name, common) for method in (first.method, BASELINE))
        if own and base.keys() == own.keys():
            mean = fmean(own.values())
            gain = measure.text(mean - fmean(base.values()), signed=True)
            value = f"{measure.name} {measure.text(mean)} {measure.unit}".strip()
            gains.append(f"<b>{escape(value)}</b>, {gain} over bicubic")
    return f"{text}: {'; '.join(gains)}." if gains else f"{text}."


def _about(gallery: Gallery, packed: Packed, common: list[Key]) -> dict[str, str]:
    """Term -> text, of how the page was made."""
    shown, maps = "all", {kind: f"colours end at {scale} of 255 grey levels" for kind, scale in gallery.scales.items()}
    if len(gallery.keys) < len(common):
        shown = f"{len(gallery.keys)} of {len(common)}, evenly spread from the first run's smallest gain to its largest"
    use = "not known here: validate the same weights once more with data.val.reference=none, then report again."
    if any(view.name.startswith("use") for view in gallery.views):
        use = f"|SR - SR without reference|, mean over R, G, B, from a second validation; {maps['use']}."
    return {
        "Images shown": f"{shown}; the numbers are of all {len(common)}.",
        "Pictures": _stored(packed),
        "Error": f"|SR - HR|, mean over R, G, B; {maps['error']} in every map.",
        "Reference use": use,
        "Loupe": "the same pixels of every view, nearest neighbour; LR at a quarter of the resolution. A reference of "
        "the same class shows another place: its loupe has the same coordinates, not the same ground.",
        "Made by": f"ttrd3 report {__version__}",
    }


def _stored(packed: Packed) -> str:
    """How exact the pictures of the page are."""
    present = {name.rstrip(string.digits) for _, name in packed.data}
    text = f"{packed.level.text(present)}. Bicubic is computed here from the LR, to the last bit as Pillow does."
    if packed.deviation:
        off = ", ".join(f"{KINDS[kind]} by {value:.2f}" for kind, value in sorted(packed.deviation.items()))
        text += f" What is not lossless differs from the original, on average and in grey levels of 255: {off}."
    if packed.deviation.keys() & {"hr", "sr"}:
        text += " Error maps are computed from these pixels and share that error; the metrics are of the originals."
    return text
