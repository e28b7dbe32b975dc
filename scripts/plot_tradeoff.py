"""Draw the trade-off of perception and distortion: PSNR against fd_efflite0 and against stlpips, lower right is better.

python scripts/plot_tradeoff.py --peer bicubic=bicubic.json --peer RealSR=realsr.json \
  --ours 0=f0.json 0.5=f5.json 1=f1.json --out figures/tradeoff.png

Each file is what the yardstick wrote with --json for one folder of images: an object of metric names and values. All
files must be of the same number of images. --ours joins our points, named by their `--fidelity`, by a line in that
order; --peer draws a named point. Needs matplotlib (requirements-dev.txt).
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # the backend must be chosen first
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from ttrd3.files import replacing

PANELS = {
    "fd_efflite0": "fd_efflite0 (Fréchet distance)",
    "stlpips": "stlpips (shift-tolerant LPIPS)",
}
OURS, PEER = "#c8102e", "#31688e"
Results = dict[str, dict[str, float]]


def named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=FILE")
    return name, Path(path)


def read(pairs: list[tuple[str, Path]]) -> Results:
    results: Results = {}
    for name, path in pairs:
        if name in results:
            sys.exit(f"two files are named {name}")
        try:
            results[name] = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            sys.exit(f"{path}: {error}")
        missing = {"images", "psnr", *PANELS} - results[name].keys()
        if missing:
            sys.exit(f"{path}: lacks {', '.join(sorted(missing))}; is it what the yardstick wrote with --json?")
    return results


def check_images(results: list[Results]) -> int:
    """The number of images, which must be one: Fréchet distances of sets of different size cannot be compared."""
    counts = {name: int(values["images"]) for group in results for name, values in group.items()}
    if len(set(counts.values())) > 1:
        sys.exit(f"not of the same images: {', '.join(f'{name} has {count}' for name, count in counts.items())}")
    return next(iter(counts.values()))


def by_fidelity(results: Results) -> Results:
    try:
        return dict(sorted(results.items(), key=lambda item: float(item[0])))
    except ValueError:
        sys.exit(f"--ours: {', '.join(results)} should be fidelities, numbers from 0 to 1")


def overlap(a: Bbox, b: Bbox) -> float:
    """Area that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)


def label(axes: Axes, points: list[tuple[float, float, str, str]], line: list[tuple[float, float]]) -> None:
    """Write each point's name where it covers least of the points, the line and the other names, nearest first."""
    figure, to_pixels = axes.figure, axes.transData.transform
    renderer, pixel = figure.canvas.get_renderer(), figure.dpi / 72
    path = [tuple(to_pixels(point)) for point in line]
    steps = [i / 20 for i in range(21)]
    dots = [to_pixels(point[:2]) for point in points]
    for (x0, y0), (x1, y1) in itertools.pairwise(path):
        dots += [(x0 + s * (x1 - x0), y0 + s * (y1 - y0)) for s in steps]
    taken = [Bbox.from_bounds(x - 4 * pixel, y - 4 * pixel, 8 * pixel, 8 * pixel) for x, y in dots]
    frame = axes.get_window_extent(renderer)
    sides = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    for x, y, name, colour in points:
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=9.5, color=colour)
        choices = []
        for distance in (7, 12, 18):
            for dx, dy in sides:
                text.set(position=(distance * dx, distance * dy))
                text.set(ha={1: "left", -1: "right", 0: "center"}[dx], va={1: "bottom", -1: "top", 0: "center"}[dy])
                box = text.get_window_extent(renderer)
                outside = box.width * box.height - overlap(box, frame)
                covered = outside + sum(overlap(box, other) for other in taken)
                choices.append((covered + 0.5 * distance, text.get_position(), text.get_ha(), text.get_va(), box))
        _, position, ha, va, box = min(choices, key=lambda choice: choice[0])
        text.set(position=position, ha=ha, va=va)
        taken.append(box)


def at(results: Results, metric: str) -> list[tuple[float, float]]:
    return [(values["psnr"], values[metric]) for values in results.values()]


def draw(axes: Axes, metric: str, ours: Results, peers: Results) -> None:
    if peers:
        axes.scatter(*zip(*at(peers, metric), strict=True), color=PEER, s=30, zorder=2)
    if ours:
        axes.plot(*zip(*at(ours, metric), strict=True), color=OURS, marker="o", markersize=5.5, linewidth=1.8, zorder=3)
    axes.margins(0.16, 0.12)
    axes.set_xlabel("PSNR (dB)  →", fontsize=11)
    axes.set_ylabel(f"←  {PANELS[metric]}", fontsize=11)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": named, "nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--ours", metavar="F=FILE", help="our results, by fidelity", **several)
    parser.add_argument("--peer", metavar="NAME=FILE", help="another method's result", **several)
    parser.add_argument("--name", default="TTRD3-S", help="of our model (%(default)s)")
    parser.add_argument("--out", required=True, type=Path, help="the picture, PNG")
    args = parser.parse_args()
    ours, peers = by_fidelity(read(args.ours)), read(args.peer)
    if not ours and not peers:
        parser.error("nothing to draw: give --ours, --peer or both")
    images = check_images([ours, peers])
    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 4.4), dpi=110)
    title = f"{images} images, x4; the arrows point to better"
    figure.suptitle(f"{args.name} by --fidelity F, and others: {title}" if ours else title, fontsize=11)
    for axes, metric in zip(panels, PANELS, strict=True):
        draw(axes, metric, ours, peers)
    figure.tight_layout(w_pad=2)
    figure.canvas.draw()  # settles where points are, in pixels
    for axes, metric in zip(panels, PANELS, strict=True):
        names = [(*point, f"F = {name}", OURS) for name, point in zip(ours, at(ours, metric), strict=True)]
        names += [(*point, name, "0.15") for name, point in zip(peers, at(peers, metric), strict=True)]
        label(axes, names, at(ours, metric))
    with replacing(args.out) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main()
