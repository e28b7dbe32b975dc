"""How far paired references are from the colours of their images, before and after `match_colours: moments`.

For every tile of a prepared paired split, between the degraded reference and the enlarged LR: distance of the channels'
means and standard deviations, and L1 over all pixels, in grey levels, averaged. Printed as a Markdown table.

  python scripts/measure_colours.py PREPARED [--split val]
"""

import argparse
from pathlib import Path

import numpy as np

from ttrd3.data.colours import match_moments
from ttrd3.data.degrade import degrade, up_from_lr
from ttrd3.data.images import read_rgb
from ttrd3.data.layout import find_tiles


def distances(degraded: np.ndarray, up: np.ndarray) -> list[float]:
    """Of means, of standard deviations, of pixels."""
    a, b = (image.astype(np.float64) for image in (degraded, up))
    moments = [np.abs(x - y).mean() for x, y in ((a.mean((0, 1)), b.mean((0, 1))), (a.std((0, 1)), b.std((0, 1))))]
    return [*moments, np.abs(a - b).mean()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="paired folder made by `ttrd3 prepare`")
    parser.add_argument("--split", default="val")
    args = parser.parse_args()
    found: dict[str, list[list[float]]] = {"none": [], "moments": []}
    for tile in find_tiles(args.root, args.split):
        up, reference = up_from_lr(read_rgb(tile.lr)), read_rgb(tile.reference)
        found["none"].append(distances(degrade(reference), up))
        found["moments"].append(distances(degrade(match_moments(reference, up)), up))
    print("| match_colours | means | standard deviations | L1 of pixels | pairs nearer in L1 |\n|---|---|---|---|---|")
    for name, rows in found.items():
        values = np.array(rows)
        better = "-" if name == "none" else f"{(values[:, 2] < np.array(found['none'])[:, 2]).sum()} of {len(values)}"
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values.mean(0))} | {better} |")


if __name__ == "__main__":
    main()
