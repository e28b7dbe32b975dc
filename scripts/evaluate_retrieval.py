"""How often retrieved references are of the same scene class: every image of class folders against all the others.

Each image is reduced by 4, enlarged and looked up among the others as `reference: retrieved` does it, its duplicates
left out. Printed as a Markdown table: the share of images whose nearest is of the same class (at 1), the share of the
same class among the nearest five (of 5), and the share of images with any of the same class among them (any of 5).
`random` is what drawing would give. With --pairs the library is DIR/ref, the queries are DIR/hr, and a hit is the file
of the same name: the same place at another date.

Data sets are often numbered along the flight, so that neighbours in number are neighbours on the ground. With --apart N
it is counted once more without images of the same class whose numbers differ by at most N.

  python scripts/evaluate_retrieval.py CLASS_FOLDERS [--apart 8] [--weights FILE ...]
  python scripts/evaluate_retrieval.py --pairs --tile 480 PAIRS [--weights FILE ...]
"""

import argparse
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.images import read_rgb, write_png
from ttrd3.data.index import Index, read_index
from ttrd3.data.indexing import update_index
from ttrd3.data.layout import Tile
from ttrd3.data.library import list_library
from ttrd3.data.retrieved import guard_of, nearest_usable, search_tiles
from ttrd3.data.search import Searcher
from ttrd3.inference.describe import make_descriptor

TOP = 5


def row(name: str, shares: Iterable[float], cost: str) -> str:
    """A line of the table."""
    return f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} | {cost} |"


def leave_one_out(index: Index, apart: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether the r-th nearest of each tile is of its class, bool (N, 5), and what drawing would give, see `drawn`."""
    names = [index.files[number].name for number in index.tiles.file]
    classes = np.array([PurePosixPath(name).parent.name for name in names])
    numbers = np.array([int("0" + re.search(r"\d*$", PurePosixPath(name).stem).group()) for name in names])
    guards, chances = [], []
    for row, name in enumerate(names):
        tile = Tile(name, classes[row], index.root / name, None, None, index.tiles.fingerprint(row))
        same = classes == classes[row]
        near = np.flatnonzero(same & (np.abs(numbers - numbers[row]) <= apart))
        guards.append(partial(refused, guard_of(index, tile), set(near.tolist())))
        chances.append(drawn(int(same.sum()) - len(near), len(names) - len(near)))
    searcher = Searcher(index.descriptors, len(names), index.width, standardized=index.header.standardized)
    queries = np.concatenate(list(index.descriptors()))
    return classes[nearest_usable(searcher, queries, guards, TOP)] == classes[:, None], np.mean(chances, axis=0)


def refused(guard: Callable[[int], bool], near: set[int], row: int) -> bool:
    return row in near or guard(row)


def drawn(same: int, others: int) -> tuple[float, float, float]:
    """The three shares in expectation, for five drawn of `others` images of which `same` are of the class."""
    return same / others, same / others, 1 - math.comb(others - same, TOP) / math.comb(others, TOP)


def true_pairs(index: Index, queries: Path, descriptor, folder: Path) -> np.ndarray:
    """bool (N, 5): whether the r-th nearest of DIR/ref is the file of the same name as an image of DIR/hr."""
    side = index.header.tile
    tiles = []
    for file in list_library(queries)[0]:
        hr, lr = queries / file.name, folder / f"{len(tiles)}.png"
        write_png(lr, lr_from_hr(read_rgb(hr)[:side, :side]))
        tiles.append(Tile(file.name, "", hr, lr))
    best = search_tiles(index, tiles, descriptor, TOP)
    return np.array(
        [[index.files[index.tiles.file[r]].name == t.name for r in b] for b, t in zip(best, tiles, strict=True)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="also by the MFAB encoders of these")
    parser.add_argument("--pairs", action="store_true", help="find the true pairs of hr/ and ref/")
    parser.add_argument("--apart", type=int, default=0, metavar="N", help="count also without neighbours in number")
    parser.add_argument("--tile", type=int, default=256)
    args = parser.parse_args()
    library = args.folder / "ref" if args.pairs else args.folder
    print("| descriptor | at 1 | of 5 | any of 5 | ms a tile |\n|---|---|---|---|---|")
    for weights in [None, *args.weights]:
        descriptor = make_descriptor(weights, torch.device("cpu"))
        name = "statistics" if weights is None else f"MFAB encoder, {weights.parent.name}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "library.index")
            started = time.perf_counter()
            update_index(library, path, descriptor, tile=args.tile, stride=args.tile, workers=1, skip_bad=True)
            index = read_index(path)
            cost = f"{1e3 * (time.perf_counter() - started) / len(index.tiles):.0f}"
            if args.pairs:
                hits = true_pairs(index, args.folder / "hr", descriptor, Path(folder))
                found = [("", hits, drawn(1, len(index.tiles)))]
            else:
                found = [(f", {n} apart" if n else "", *leave_one_out(index, n)) for n in sorted({0, args.apart})]
        for note, hits, chance in found:
            if weights is None:
                print(row("random" + note, chance, "-"))
            print(row(name + note, (hits[:, 0].mean(), hits.mean(), hits.any(1).mean()), cost), flush=True)
    print(f"\n{len(hits)} images looked up among {len(index.tiles)}, {torch.get_num_threads()} thread(s)")


if __name__ == "__main__":
    main()
