"""Time and memory of restoring one 256 x 256 tile: the plain networks beside their fast copies, in one run.

The plain path is what one writes first: the networks as they are trained, in float32, default memory format and
allocator, everything that a step needs computed in it. The fast copy (networks/fast) computes once what does not
change between steps, in float32 and in bfloat16; the last way also has the reference encoded before, as for the second
and all further tiles that share it. Weights are random, which changes no time. Every way of a model runs in a process
of its own, whose peak memory is its own; the ways take turns, and the fastest round counts. CPU seconds are those of
all threads: other programs on the machine lengthen them less than the seconds on the clock. The floor is what the
operations of the plain path (convolutions and products, counted by PyTorch) take at the rate of one large matrix
product in the same number format. Prints a Markdown table.

  sh scripts/benchmark_upscale.sh [--only S] [--steps 1 10] [--rounds 2] [--cpu]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {"1Net-A": "TTRD3", "1Net-B": "TTRD3-1Net-B", "2Net": "TTRD3-2Net", "S": "TTRD3-S"}
WAYS = ("plain, float32", "fast, float32", "fast, bfloat16", "fast, bfloat16, reference encoded before")
TILE = 256


def measure(name: str, way: str, steps: list[int], on_cpu: bool) -> None:
    """Print what one way of one model takes as JSON: seconds for each number of steps, bytes, operations."""
    from torch.utils.flop_counter import FlopCounterMode

    from ttrd3.diffusion.objectives import OBJECTIVES
    from ttrd3.diffusion.samplers import sample
    from ttrd3.engine import build
    from ttrd3.engine.acceleration import keep_freed_memory, peak_memory
    from ttrd3.engine.options import load_options
    from ttrd3.networks.fast import prepare

    options = load_options([str(ROOT / "options" / f"{VARIANTS[name]}.yml"), "diffusion.timesteps=1000"])
    device = torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")
    plain = way.startswith("plain")
    if not plain and device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(0)
    model = build.build_model(options.model, options.diffusion).to(device).eval()
    if not plain:
        model = prepare(model, torch.bfloat16 if "bfloat16" in way else torch.float32)
    process, objective = build.build_process(options.diffusion).to(device), OBJECTIVES[options.diffusion.objective]
    up, reference, degraded = (torch.rand(1, 3, TILE, TILE, device=device) for _ in range(3))
    features = model.encode_reference(reference, degraded) if "before" in way else None

    def restore(count: int) -> tuple[float, float]:
        started, used = time.perf_counter(), time.process_time()
        x_in, times = 2 * up - 1, process.times(count)[:-1]
        textures = model.textures(up, features) if features else model.encode(up, reference, degraded)
        denoise = model.begin(x_in, textures, times)

        def predict(x, t):
            return objective.convert(denoise(x, times.index(int(t[0]))), process, x, x_in, t, clamp=True)

        sample(predict, process, process.start(x_in, torch.randn_like(up)), count).sum().item()
        return time.perf_counter() - started, time.process_time() - used

    with torch.no_grad():
        restore(1)
        seconds = {count: min(restore(count) for _ in range(2 if count == 1 else 1)) for count in steps}
        memory, flop = peak_memory(device), {}
        if plain:
            for count in (1, 2):
                with FlopCounterMode(display=False) as counter:
                    restore(count)
                flop[count] = counter.get_total_flops()
    print(json.dumps({"seconds": seconds, "memory": memory, "flop": flop}))


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def report(args: argparse.Namespace) -> None:
    """Run everything and print the table line by line."""
    from ttrd3.engine.run_folder import device_name

    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    rates = {"float32": matrix_rate(device, torch.float32), "bfloat16": matrix_rate(device, torch.bfloat16)}
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device_name(device)}{threads}, torch {torch.__version__}. Matrix product: "
          f"{rates['float32'] / 1e9:.0f} GFLOP/s float32, {rates['bfloat16'] / 1e9:.0f} bfloat16.\n")  # fmt: skip
    print("| model | steps | way | s/tile | s/megapixel | speed | CPU s/tile | peak memory | floor | floor's share |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.only or VARIANTS:
        rounds = [{way: run(args, name, way) for way in WAYS} for _ in range(args.rounds)]
        first = rounds[0][WAYS[0]]["flop"]
        for count in args.steps:
            flop = first["1"] + (count - 1) * (first["2"] - first["1"])
            found = {way: min((r[way] for r in rounds), key=lambda r: r["seconds"][str(count)]) for way in WAYS}
            plain = found[WAYS[0]]["seconds"][str(count)][0]
            for way, result in found.items():
                seconds, used = result["seconds"][str(count)]
                floor = flop / rates["bfloat16" if "bfloat16" in way else "float32"]
                cells = [
                    *(name, str(count), way, f"{seconds:.2f}", f"{seconds * 1e6 / TILE**2:.1f}"),
                    *(f"{plain / seconds:.2f}x", f"{used:.2f}", f"{result['memory'] / 1e9:.2f} GB"),
                    *(f"{floor:.2f} s", f"{100 * floor / seconds:.0f}%"),
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


def run(args: argparse.Namespace, name: str, way: str) -> dict:
    """Measure one way in a process of its own."""
    command = [sys.executable, "-P", __file__, "--one", name, way, "--steps", *map(str, args.steps)]
    done = subprocess.run([*command, *(["--cpu"] if args.cpu else [])], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}, {way}: failed\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=VARIANTS, action="append", help="one of the models (default: all)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, though there is a GPU")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 10], help="numbers of sampling steps")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each way, in turns")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(*args.one, args.steps, args.cpu)
    else:
        report(args)


if __name__ == "__main__":
    main()
