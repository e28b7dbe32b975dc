"""Make the weights file that ships with ttrd3 of a training's: 16 bits, and the sampling that it is to be used with.

    python scripts/make_release.py runs/TTRD3-S/weights.safetensors --out weights/ttrd3-s.safetensors sampling.steps=1

With `--mix BASE.safetensors 0.3` it has 0.7 of the weights and 0.3 of those that training started from, but for the
parts that `--but` names: what realism changed in what both ends share is taken back by as much, which costs little of
it (network interpolation, ESRGAN, arXiv:1809.00219).

The options inside stay those of the training, but for the settings given here. Prints the largest change by 16 bits.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from ttrd3 import config
from ttrd3.engine.checkpoint import save_state
from ttrd3.engine.options import Options
from ttrd3.errors import UserError
from ttrd3.inference.weights import load


def mixed(weights: dict[str, Tensor], path: Path, share: str, but: list[str]) -> dict[str, Tensor]:
    """(1 - share) * weights + share * those of the file, but for the parts named."""
    try:
        part = float(share)
    except ValueError:
        part = math.nan
    if not 0 <= part <= 1:
        raise UserError(f"--mix: found the share {share}, expected a number from 0 to 1")
    other = load(path).weights()
    ours, theirs = ({name: tuple(value.shape) for name, value in state.items()} for state in (weights, other))
    differ = sorted(name for name, _ in ours.items() ^ theirs.items())
    if differ:
        raise UserError(
            f"{path}: not of the same network: {differ[0]} is {theirs.get(differ[0])}, expected {ours.get(differ[0])}"
        )
    kept: set[str] = set()
    for name in but:
        found = {key for key in weights if f"{key}.".startswith(f"{name}.")}
        if not found:
            raise UserError(f"--but: the network has no part {name}; it has {', '.join(sorted(weights)[:3])}, ...")
        kept |= found
    return {key: value if key in kept else (1 - part) * value + part * other[key] for key, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="what training wrote")
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="of the options inside")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--mix", nargs=2, metavar=("BASE", "SHARE"), help="other weights of the same network, 0 to 1")
    parser.add_argument("--but", nargs="+", default=[], metavar="PART", help="parts that are not mixed, as unet.noise")
    args = parser.parse_intermixed_args()  # settings may stand after --out
    if args.but and args.mix is None:
        parser.error("--but names what --mix leaves as it is; give --mix BASE SHARE too")
    stored = load(args.weights)
    document = config.Document(stored.options, str(args.weights))
    config.override(document, args.settings)
    options = config.validate(Options, document)
    whole = stored.weights()
    if args.mix is not None:
        whole = mixed(whole, Path(args.mix[0]), args.mix[1], args.but)
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
