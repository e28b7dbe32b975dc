"""Time and memory of STTG's matching and transfer beside the plain version that unfolds every patch.

Both work on the same random features of a 256 x 256 image (grid 64 x 64, widths 64, 128, 256, K = 4, 3, 1), forward
only, each in a process of its own so that its peak memory is its own. Prints a Markdown table.

  python scripts/benchmark_textures.py [--size 256] [--runs 5]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
WIDTHS, MATCHES, BLOCKS = (256, 128, 64), (4, 3, 1), (1, 2, 4)


def ours(lr, degraded, levels, grid):
    """The product."""
    from ttrd3.networks.matching import match
    from ttrd3.networks.transfer import transfer

    found = match(lr, degraded, max(MATCHES), 2**28)
    weights = found.similarity.sigmoid()
    return [
        transfer(level, found.index[:, :, :k], weights[:, :, :k], grid, s)
        for level, k, s in zip(levels, MATCHES, BLOCKS, strict=True)
    ]


def plain(lr, degraded, levels, grid):
    """Patches unfolded, as in the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from networks.plain import plain_similarity, plain_transfer

    similarity, index = plain_similarity(lr, degraded).topk(max(MATCHES), dim=2)
    weights = similarity.sigmoid()
    return [
        plain_transfer(level, index[:, :, :k], weights[:, :, :k], grid, s)
        for level, k, s in zip(levels, MATCHES, BLOCKS, strict=True)
    ]


@torch.inference_mode()
def measure(version, size: int, runs: int) -> None:
    """Print the median seconds and the peak memory above the inputs in MiB."""
    torch.manual_seed(0)
    grid = (size // 4, size // 4)
    lr, degraded = (torch.randn(1, WIDTHS[0], *grid) for _ in range(2))
    levels = [torch.randn(1, w, grid[0] * s, grid[1] * s) for w, s in zip(WIDTHS, BLOCKS, strict=True)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(runs + 1):  # the first is a warm-up
        started = time.perf_counter()
        version(lr, degraded, levels, grid)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(statistics.median(seconds[1:]), (peak - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the HR image in pixels")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", choices=("ours", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure({"ours": ours, "plain": plain}[args.one], args.size, args.runs)
        return
    print(
        f"| {args.size} x {args.size}, {torch.get_num_threads()} threads | seconds | peak memory, MiB |\n|---|---|---|"
    )
    for name in ("plain", "ours"):
        command = [sys.executable, __file__, "--one", name, "--size", str(args.size), "--runs", str(args.runs)]
        seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"| {name} | {float(seconds):.3f} | {float(memory):.0f} |", flush=True)


if __name__ == "__main__":
    main()
