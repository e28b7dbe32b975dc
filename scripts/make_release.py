"""Make the weights file that ships with ttrd3 of a training's: 16 bits, and the sampling that it is to be used with.

    python scripts/make_release.py runs/TTRD3-S/weights.safetensors --out weights/ttrd3-s.safetensors sampling.steps=1

The options inside stay those of the training, but for the settings given here. Prints the largest change of a weight.
"""

import argparse
from pathlib import Path

import torch

from ttrd3 import config
from ttrd3.engine.checkpoint import save_state
from ttrd3.engine.options import Options
from ttrd3.errors import UserError
from ttrd3.inference.weights import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="what training wrote")
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="of the options inside")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    args = parser.parse_intermixed_args()  # settings may stand after --out
    stored = load(args.weights)
    document = config.Document(stored.options, str(args.weights))
    config.override(document, args.settings)
    options = config.validate(Options, document)
    whole = stored.weights()
    half = {name: value.half() for name, value in whole.items()}
    change = max((half[name].float() - value).abs().max().item() for name, value in whole.items())
    if not all(torch.isfinite(value).all() for value in half.values()):
        raise UserError(f"{args.weights}: holds values beyond the range of float16 (65504); it cannot be halved.")
    save_state(args.out, half, options, stored.step)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, step {stored.step}, largest change {change:.1e}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
