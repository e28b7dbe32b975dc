"""Make the authors' released checkpoints (TTRD3-1Net-A, 1Net-B, 2Net: model-300.pt) usable here.

  ttrd3 import-released model-300.pt --out weights/ttrd3-1net-a.safetensors
  ttrd3 val weights/ttrd3-1net-a.yml data.val.root=datasets/AID

finds out the variant, takes the averaged (EMA) UNet and the online texture net as the authors' test does, and writes
weights and, beside them, an options file (.yml) that reproduces the released behaviour. Every key of the file is
accounted for in the summary. Nothing that the file might hold besides weights is ever run.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttrd3.engine.importing import Import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The authors' file, and what to make of it."""
    parser.add_argument("checkpoint", type=Path, metavar="FILE.pt", help="the authors' checkpoint, e.g. model-300.pt")
    parser.add_argument("--out", type=Path, required=True, metavar="NAME.safetensors", help="weights to write")
    parser.add_argument(
        "--texture-net",
        choices=("online", "ema"),
        default="online",
        help="which of the two texture nets of the file: online, as in the authors' test (default), or averaged",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace NAME.safetensors and NAME.yml if they exist")


def run(args: argparse.Namespace) -> int:
    """Import and print what became of every key."""
    from ttrd3.engine.importing import import_released

    print(_summary(import_released(args.checkpoint, args.out, args.texture_net, args.overwrite)))
    return 0


def _summary(done: "Import") -> str:
    inventory = done.inventory
    k = ", ".join(map(str, done.converted.matches))
    lines = [
        f"{inventory.path}: TTRD3-{inventory.variant}, step {inventory.step}",
        f"K = {k} at levels 3, 2, 1 (arg max of the stored logits + 1)",
        "",
        f"{'keys':>6}{'values':>13}",
    ]
    for fate in inventory.fates:
        lines.append(f"{fate.keys:6d}{fate.values:13,d}  {'taken  ' if fate.taken else 'dropped'}  {fate.what}")
    total = sum(fate.keys for fate in inventory.fates)
    lines += [f"{total:6d}{'':13}  in the file", "", f"weights  {done.weights}", f"options  {done.options}", ""]
    return "\n".join([*lines, f"Validate with: ttrd3 val {shlex.quote(str(done.options))} data.val.root=FOLDER"])
