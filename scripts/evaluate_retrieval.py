"""How often retrieved references are of the same scene class: every image of class folders against all the others.

Each image is reduced by 4, enlarged and looked up among the others as `reference: retrieved` does it, its duplicates
left out. Printed as a Markdown table: the share of images whose nearest is of the same class (at 1), the share of the
same class among the nearest five (of 5), and the share of images with any of the same class among them (any of 5).
`random` is what drawing would give. With --pairs the library is DIR/ref, the queries are DIR/hr, and a hit is the file
of the same name: the same place at another date.

  python scripts/evaluate_retrieval.py CLASS_FOLDERS [--weights FILE ...]
  python scripts/evaluate_retrieval.py --pairs --tile 480 PAIRS [--weights FILE ...]
"""

import argparse
import math
import tempfile
import time
from collections import Counter
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
from ttrd3.engine.describe import make_descriptor

TOP = 5


def row(name: str, hits: np.ndarray, seconds: float) -> str:
    """A line of the table of bool (N, 5)."""
    shares = hits[:, 0].mean(), hits.mean(), hits.any(1).mean()
    return f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} | {1e3 * seconds:.1f} |"


def leave_one_out(index: Index) -> np.ndarray:
    """bool (N, 5): whether the r-th nearest of each tile is of its class."""
    names = [index.files[number].name for number in index.tiles.file]
    classes = np.array([PurePosixPath(name).parent.name for name in names])
    tiles = [
        Tile(name, class_name, index.root / name, None, None, index.tiles.fingerprint(number))
        for number, (name, class_name) in enumerate(zip(names, classes, strict=True))
    ]
    searcher = Searcher(index.descriptors, len(tiles), index.width, standardized=index.header.standardized)
    queries = np.concatenate(list(index.descriptors()))
    best = nearest_usable(searcher, queries, [guard_of(index, tile) for tile in tiles], TOP)
    return classes[best] == classes[:, None]


def drawn(index: Index) -> tuple[float, float, float]:
    """What drawing five others without putting back gives in expectation."""
    classes = Counter(PurePosixPath(index.files[number].name).parent.name for number in index.tiles.file)
    total = sum(classes.values())
    at_one = sum(n * (n - 1) for n in classes.values()) / (total * (total - 1))
    none = sum(n * math.comb(total - n, TOP) for n in classes.values()) / (total * math.comb(total - 1, TOP))
    return at_one, at_one, 1 - none


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
    parser.add_argument("--tile", type=int, default=256)
    args = parser.parse_args()
    library = args.folder / "ref" if args.pairs else args.folder
    print("| descriptor | at 1 | of 5 | any of 5 | ms a tile |\n|---|---|---|---|---|")
    for weights in [None, *args.weights]:
        descriptor = make_descriptor(weights, torch.device("cpu"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "library.index")
            started = time.perf_counter()
            update_index(library, path, descriptor, tile=args.tile, stride=args.tile, workers=1, skip_bad=True)
            index = read_index(path)
            seconds = (time.perf_counter() - started) / len(index.tiles)
            if args.pairs:
                hits = true_pairs(index, args.folder / "hr", descriptor, Path(folder))
            else:
                hits = leave_one_out(index)
        if weights is None and args.pairs:
            print(f"| random | {1 / len(index.tiles):.3f} | - | {TOP / len(index.tiles):.3f} | - |")
        elif weights is None:
            print(f"| random | {' | '.join(f'{share:.3f}' for share in drawn(index))} | - |", flush=True)
        name = "statistics" if weights is None else f"MFAB encoder, {weights.parent.name}"
        print(row(name, hits, seconds), flush=True)
    print(f"\n{len(hits)} images looked up among {len(index.tiles)}, {torch.get_num_threads()} thread(s)")


if __name__ == "__main__":
    main()
