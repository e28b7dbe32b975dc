"""Memory and time of `ttrd3 upscale` on GeoTIFF scenes of growing size: the peak must not grow with them.

Makes scenes from the embedded GeoTIFF by repeating it, enlarges each in a process of its own, and prints a Markdown
table of the peak of its resident memory. Without --weights, a tiny untrained model is made, which is enough to see the
memory of everything around the networks.

  python scripts/benchmark_scene.py [--weights FILE] [--sizes 2000 5000 10000] [--processes 1] [-- options of upscale]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from ttrd3.engine import build, checkpoint
from ttrd3.engine.options import load_options
from ttrd3.environment import ROOT

TINY = [
    "model.encoder={type: MFAB, block: paper, widths: [8, 8, 8], hidden: 4, blocks: 1}",
    "model.transfer={type: STTG, matches: [2, 2, 2]}",
    "model.unet={type: 1Net-A, width: 8, multipliers: [1, 1, 1, 1]}",
    "diffusion.timesteps=1",
    "sampling.steps=1",
]


def make_weights(path: Path) -> Path:
    options = load_options([str(ROOT / "options" / "quickstart.yml"), *TINY])
    model = build.build_model(options.model, options.diffusion)
    checkpoint.save_state(path, model.state_dict(), options, step=0)
    return path


def make_scene(path: Path, side: int) -> Path:
    """A GeoTIFF of side x side pixels, in blocks of 256, written row by row."""
    with rasterio.open(ROOT / "samples" / "OSBS_029.tif") as sample:
        pixels, profile = sample.read(), sample.profile
    profile |= {"width": side, "height": side, "tiled": True, "blockxsize": 256, "blockysize": 256, "nodata": None}
    repeats = -(-side // pixels.shape[2])
    with rasterio.open(path, "w", **profile) as out:
        for top in range(0, side, 256):
            rows = np.arange(top, min(top + 256, side)) % pixels.shape[1]
            strip = np.tile(pixels[:, rows], (1, 1, repeats))[:, :, :side]
            out.write(strip, window=((top, top + len(rows)), (0, side)))
    return path


def upscale(scene: Path, out: Path, weights: Path, processes: int, words: list[str]) -> tuple[float, float]:
    """Seconds, and the peak of the largest process in MB."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "ttrd3"]
    module = launcher if processes > 1 else ["ttrd3"]
    command = [sys.executable, "-m", *module, "upscale", scene, "--out", out, "--weights", weights, *words]
    code = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "codes")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return time.perf_counter() - started, int(done.stdout.split()[-1]) * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 5000, 10000], help="sides of the results")
    parser.add_argument("--processes", type=int, default=1, help="under torchrun, if more than 1")
    parser.add_argument("words", nargs="*", help="options of upscale, after --")
    args = parser.parse_args()
    print("| output | seconds | peak memory | result |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights = args.weights or make_weights(root / "tiny.safetensors")
        for size in args.sizes:
            scene = make_scene(root / f"scene-{size}.tif", size // 4)
            seconds, peak = upscale(scene, root / "out", weights, args.processes, args.words)
            result = root / "out" / scene.name
            megabytes = result.stat().st_size / 1e6
            print(f"| {size} x {size} | {seconds:.0f} | {peak:.0f} MB | {megabytes:.0f} MB |", flush=True)
            result.unlink()


if __name__ == "__main__":
    main()
