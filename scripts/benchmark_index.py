"""Time and peak memory of `ttrd3 index` and of looking up references, for libraries of 1 k, 10 k and 100 k tiles.

A library is one synthetic GeoTIFF from which overlapping tiles are cut by windowed reading, each described by
statistics in one process. Then 1000 tiles are looked up, once comparing with every tile and once by clusters (which the
product does above 200 k tiles), with the share of the five nearest that the clusters find. Each size and step runs in a
process of its own, so that its peak memory is its own; that of a process that only imports the code is shown first.
Prints a Markdown table.

  python scripts/benchmark_index.py [--tiles 1000 10000 100000]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.index import read_index
from ttrd3.data.indexing import update_index
from ttrd3.data.search import Searcher

TILE, STRIDE, QUERIES, TOP = 64, 16, 1000, 5


def make_library(folder: Path, tiles: int) -> None:
    """A GeoTIFF with so many windows, written strip by strip: noise of several scales, coloured by place."""
    across = round(tiles**0.5)
    side = TILE + STRIDE * (across - 1)
    rng = np.random.default_rng(0)
    folder.mkdir()
    layout = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8"}
    layout["transform"] = rasterio.Affine(0.3, 0, 0, 0, -0.3, 0)
    with rasterio.open(folder / "scene.tif", "w", tiled=True, blockxsize=256, blockysize=256, **layout) as scene:
        for top in range(0, side, 256):
            height = min(256, side - top)
            noise = rng.normal(0, 12, (3, height, side))
            for size in (8, 32, 128):
                coarse = rng.normal(0, 25, (3, -(-height // size), -(-side // size)))
                noise += coarse.repeat(size, 1).repeat(size, 2)[:, :height, :side]
            strip = np.clip(noise + 120, 0, 255).astype(np.uint8)
            scene.write(strip, window=rasterio.windows.Window(0, top, side, height))


def step_import(_: Path) -> list[float]:
    return [0]


def step_index(folder: Path) -> list[float]:
    found = update_index(
        folder / "library", folder / "of.index", StatisticsDescriptor(), tile=TILE, stride=STRIDE, workers=1
    )
    return [found.tiles, (folder / "of.index").stat().st_size / 2**20]


def step_exact(folder: Path) -> list[float]:
    np.save(folder / "exact.npy", _look_up(folder, exact_up_to=2**62))
    return [1.0]


def step_clusters(folder: Path) -> list[float]:
    exact, found = np.load(folder / "exact.npy"), _look_up(folder, exact_up_to=0)
    return [float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))]


def _look_up(folder: Path, exact_up_to: int) -> np.ndarray:
    index = read_index(folder / "of.index")
    searcher = Searcher(index.descriptors, len(index.tiles), index.width, standardized=False, exact_up_to=exact_up_to)
    queries = np.concatenate([chunk[:: max(1, len(index.tiles) // QUERIES)] for chunk in index.descriptors()])[:QUERIES]
    return searcher.nearest(queries, TOP)


STEPS = {"import": step_import, "index": step_index, "exact": step_exact, "clusters": step_clusters}


def in_process(step: str, folder: Path) -> list[float]:
    """Seconds, peak MiB, and what the step returns, of a fresh process."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    return [float(word) for word in subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        started = time.perf_counter()
        found = STEPS[args.step](args.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(time.perf_counter() - started, peak, *found)
        return
    print("| tiles | step | seconds | peak memory, MiB | |\n|---|---|---|---|---|")
    _, peak, _ = in_process("import", Path())
    print(f"| - | import only | - | {peak:.0f} | |", flush=True)
    for tiles in args.tiles:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_library(folder / "library", tiles)
            seconds, peak, count, size = in_process("index", folder)
            print(f"| {count:.0f} | index | {seconds:.1f} | {peak:.0f} | file of {size:.1f} MiB |", flush=True)
            for step, text in (("exact", f"look up {QUERIES}"), ("clusters", f"look up {QUERIES} by clusters")):
                seconds, peak, share = in_process(step, folder)
                note = f"finds {share:.3f} of the nearest {TOP}"
                print(f"| {count:.0f} | {text} | {seconds:.1f} | {peak:.0f} | {note} |", flush=True)


if __name__ == "__main__":
    main()
