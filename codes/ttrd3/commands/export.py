"""Write a model as one ONNX graph, which runs without PyTorch: `scripts/run_onnx.py` shows how, in a few lines.

  ttrd3 export --onnx ttrd3.onnx                                  # the weights that come with ttrd3
  ttrd3 export --onnx faithful.onnx --fidelity 1 --strength 0
  ttrd3 export --onnx ttrd3.onnx --weights runs/ucmerced/weights.safetensors --tile 128 --steps 2

The graph restores one tile of a fixed size, all sampling steps in one call. It takes what a picture file holds, 8 bits
(H, W, 3): `up` (LR enlarged by bicubic), `reference` and `degraded` (the reference reduced to 1/4 and enlarged again),
and `noise` (float32, standard normal); it gives `sr`, float32 in [0, 1]. Before it is written, it is compared with
PyTorch.
Every step adds its own copy of the UNet's operations (not of its weights) to the graph: it is meant for few steps.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to write, of which weights, and for which tiles."""
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="graph to write")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="of training or import-released (default: those that come along)"
    )
    parser.add_argument(
        "--tile", type=_positive, default=256, metavar="PIXELS", help="side of the output (default: 256)"
    )
    parser.add_argument(
        "--steps", type=_positive, metavar="K", help="sampling steps (default: as the weights' options)"
    )
    parser.add_argument(
        "--strength",
        type=_share,
        metavar="S",
        help="of the reference, 0 to 1 (default: as the weights' options); 0 makes a graph without a reference",
    )
    parser.add_argument(
        "--fidelity",
        type=_share,
        metavar="F",
        help="0 (most realistic) to 1 (most faithful: the residual alone) (default: as the weights' options)",
    )


def run(args: argparse.Namespace) -> int:
    """Export and tell the inputs and the difference to PyTorch."""
    from ttrd3.engine.export import export
    from ttrd3.inference.weights import SHIPPED

    done = export(args.weights or SHIPPED, args.onnx, args.tile, args.steps, args.strength, args.fidelity)
    for name, shape in done.inputs.items():
        print(f"input   {name:<10} {' x '.join(map(str, shape))}  {'float32' if name == 'noise' else 'uint8'}")
    print(f"output  {'sr':<10} {' x '.join(map(str, done.inputs['up']))}  float32")
    print(f"graph   {args.onnx}, {done.size / 1e6:.1f} MB; differs from PyTorch by {done.difference:.1g} of [0, 1]")
    return 0


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {word}, expected at least 1")
    return value


def _share(word: str) -> float:
    value = float(word)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {word}, expected 0 to 1")
    return value
