"""Training speed of every variant and of the small model, beside the plain float32 eager loop, in one run.

The plain loop is what one writes first: tiles decoded for every sample, float32, default memory format and allocator,
Adam without fusion. The engine is what `ttrd3 train` runs, in float32 and in bfloat16 with channels last. Each is
measured in a process of its own, whose peak memory is its own, on the embedded tiles; the perceptual loss is left out,
because its weights may have to be downloaded. FLOP are counted by PyTorch (convolutions and products, forward and
backward) and set against the rate of one large matrix product in the same number format. The ways take turns, and the
fastest step of each counts, so that other work on the machine disturbs least. Prints a Markdown table.

  sh scripts/benchmark_training.sh [--only small] [--crop 64] [--batch 2] [--steps 6] [--device auto] [--compile]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {"1Net-A": "TTRD3", "1Net-B": "TTRD3-1Net-B", "2Net": "TTRD3-2Net", "small": "ucmerced"}
CROP = {"cpu": 64, "cuda": 256}
BATCH = {"cpu": {"small": 4, "full": 2}, "cuda": {"small": 32, "full": 8}}
LOSSES = "losses=[{type: l1, of: residual}, {type: l1, of: noise}, {type: posterior, norm: l1, weight: 5.0}]"
DATA = [f"data.{part}.root=samples/neon" for part in ("train", "val")]
WAYS = {
    "plain loop, float32": None,
    "engine, float32": ["train.precision=float32"],
    "engine, bfloat16": ["train.precision=bfloat16", "train.channels_last=true"],
}
COMPILED = {"engine, bfloat16, compiled": [*WAYS["engine, bfloat16"], "train.compile=true"]}
WARM_UP = 2


def plain_step(options, device):
    """`step()` and the batches it takes, without the engine."""
    from torch.utils.data import DataLoader

    from ttrd3.data.streams import PassSampler
    from ttrd3.diffusion.objectives import OBJECTIVES
    from ttrd3.engine import build
    from ttrd3.engine.loading import TrainingSamples

    data = build.build_dataset(options.data.train, options.seed)
    model = build.build_model(options.model, options.diffusion).to(device)
    process = build.build_process(options.diffusion).to(device)
    objective = OBJECTIVES[options.diffusion.objective]
    adam = torch.optim.Adam(model.parameters(), 1e-4, foreach=False, fused=False)
    samples = TrainingSamples(data, process.timesteps, seed=0)
    batches = iter(DataLoader(samples, batch_sampler=PassSampler(0, options.train.batch_size)))

    def step() -> float:
        started = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - started
        images = [batch[key].to(device).float() / 255 for key in ("hr", "up", "reference", "degraded_reference")]
        hr, up, reference, degraded = images
        t, noise = batch["t"].to(device), batch["noise"].to(device)
        x0, x_in = 2 * hr - 1, 2 * up - 1
        x_t = process.diffuse(x0, x_in - x0, noise, t)
        outputs = model(x_t, t, up, reference, degraded, batch["has_reference"].to(device))
        found = objective.convert(outputs, process, x_t, x_in, t, clamp=False)
        posterior, target = (
            process.posterior_mean(x_t, r, n, t) for r, n in ((found.residual, found.noise), (x_in - x0, noise))
        )
        targets = objective.targets(x0, x_in, noise)
        loss = sum((a - b).abs().mean() for a, b in zip(outputs, targets, strict=True))
        loss = loss + 5 * (posterior - target).abs().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        loss.item()
        return waited

    return step


def engine_step(options, device):
    """The same with the engine."""
    from ttrd3.engine import build
    from ttrd3.engine.distributed import ALONE
    from ttrd3.engine.loading import DeviceBatches, TrainingSamples, training_loader
    from ttrd3.engine.stepper import Stepper

    build.build_device(str(device))
    stepper = Stepper(options, device, ALONE)
    data = build.build_dataset(options.data.train, options.seed)
    data.use_cache(Path(options.output))
    samples = TrainingSamples(data, stepper.process.timesteps, seed=0)
    pin = device.type == "cuda"
    loader = training_loader(samples, options.train.batch_size, 0, options.train.workers, pin)
    stream, number = DeviceBatches(loader, device), 0

    def step() -> float:
        nonlocal number
        stream.waited = 0.0
        stepper.step(number, [next(stream)])
        number += 1
        return stream.waited

    return step


def measure(words: list[str], plain: bool, steps: int) -> None:
    """Print what one way reaches as JSON."""
    from torch.utils.flop_counter import FlopCounterMode

    from ttrd3.engine.acceleration import peak_memory
    from ttrd3.engine.distributed import uses_cuda
    from ttrd3.engine.options import load_options

    with tempfile.TemporaryDirectory() as output:
        options = load_options([*words, f"output={output}"])
        device = torch.device("cuda" if uses_cuda(options.device) else "cpu")
        step = (plain_step if plain else engine_step)(options, device)
        for _ in range(WARM_UP):
            step()
        seconds, waited = [], 0.0
        for _ in range(steps):
            started = time.perf_counter()
            waited += step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
        memory = peak_memory(device)
        flop = 0
        if plain:  # the same for all ways; counting slows a step down
            with FlopCounterMode(display=False) as counter:
                step()
            flop = counter.get_total_flops()
        print(json.dumps({"seconds": min(seconds), "waited": waited / sum(seconds), "memory": memory,
                          "flop": flop}))  # fmt: skip


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=VARIANTS, action="append", help="one of the models (default: all)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--crop", type=int, help="side of the HR crops (default: 64 on a CPU, 256 on a GPU)")
    parser.add_argument("--batch", type=int, help="images per step (default: 2 on a CPU, 8 on a GPU; small: 4, 32)")
    parser.add_argument("--steps", type=int, default=4, help="timed steps in each round")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each way, in turns")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes minutes")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure(args.one[1:], args.one[0] == "plain", args.steps)
        return
    report(args)


def report(args: argparse.Namespace) -> None:
    """Run everything and print the table line by line."""
    from ttrd3.engine.distributed import uses_cuda
    from ttrd3.engine.run_folder import device_name

    device = torch.device("cuda" if uses_cuda(args.device) else "cpu")
    rates = {"float32": matrix_rate(device, torch.float32), "bfloat16": matrix_rate(device, torch.bfloat16)}
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device_name(device)}{threads}, torch {torch.__version__}. Matrix product: "
          f"{rates['float32'] / 1e9:.0f} GFLOP/s float32, {rates['bfloat16'] / 1e9:.0f} bfloat16.\n")  # fmt: skip
    print("| model | batch | way | steps/s | images/s | waiting | peak memory | GFLOP/s | of matrix rate | speed |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ways = WAYS | COMPILED if args.compile else WAYS
    for model in args.only or VARIANTS:
        crop = args.crop or CROP[device.type]
        batch = args.batch or BATCH[device.type]["small" if model == "small" else "full"]
        words = [str(ROOT / "options" / f"{VARIANTS[model]}.yml"), LOSSES, *DATA, f"device={device.type}"]
        words += [f"data.train.crop={crop}", f"train.batch_size={batch}", "train.accumulation=1"]
        rounds = [
            {way: run(words, settings, args.steps, f"{model}, {way}") for way, settings in ways.items()}
            for _ in range(args.rounds)
        ]
        plain = fastest(rounds, next(iter(ways)))
        for way in ways:
            found = fastest(rounds, way)
            rate = plain["flop"] / found["seconds"]
            share = rate / rates["bfloat16" if "bfloat16" in way else "float32"]
            cells = [
                *(model, f"{batch} x {crop}", way, f"{1 / found['seconds']:.3g}", f"{batch / found['seconds']:.3g}"),
                *(f"{100 * found['waited']:.1f}%", f"{found['memory'] / 1e9:.2f} GB", f"{rate / 1e9:.0f}"),
                *(f"{100 * share:.0f}%", f"{plain['seconds'] / found['seconds']:.2f}x"),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def fastest(rounds: list[dict], way: str) -> dict:
    """What the round with the fastest step of a way has found."""
    return min((found[way] for found in rounds), key=lambda found: found["seconds"])


def run(words: list[str], settings: list[str] | None, steps: int, what: str) -> dict:
    """Measure one way in a process of its own."""
    kind = "plain" if settings is None else "engine"
    command = [sys.executable, "-P", __file__, "--steps", str(steps), "--one", kind, *words, *(settings or [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what}: failed\n{done.stderr}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
