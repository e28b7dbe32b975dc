"""Enlarge images of any size by four: PNG, JPEG, WebP, TIFF and GeoTIFF.

  ttrd3 upscale lr.png --out big
  ttrd3 upscale scene.tif --out big --reference sharp.tif --consistent
  ttrd3 upscale lr/ --out big --weights weights.safetensors --reference hr/ --samples 8
  ttrd3 upscale scene.tif --out big --reference scenes.index
  torchrun --nproc-per-node 2 -m ttrd3 upscale scene.tif --out big

GeoTIFFs keep CRS, place, type, nodata and band descriptions, and are read and written by windows, so that memory does
not grow with the scene. The same command again goes on with an interrupted scene and leaves finished results alone.
Several processes under torchrun share large scenes tile by tile and small images file by file.

A reference is a picture; a georeferenced scene (the same place is found and reprojected); a folder with a file of each
input's name; or a library of similar scenes, of which each tile takes the one that looks most like it, never the input
itself: an index that `ttrd3 index` made, or a folder without any input's name, which is indexed into a hidden file in
--out. Exit code: 0 all done; 2 nothing was begun, because of the options, the weights, or a library that cannot serve;
10 + N if N inputs failed (110: 100 or more), the others being done; 130 interrupted.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ttrd3.errors import UserError

if TYPE_CHECKING:
    from ttrd3.inference.batch import Report

FAILED, MOST_FAILED = 10, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ttrd3 upscale`."""
    add = parser.add_argument
    add("inputs", type=Path, nargs="+", metavar="INPUT", help="image files, or folders of them")
    add("--out", type=Path, required=True, metavar="DIR", help="where the results go, by the inputs' names")
    add("--weights", type=Path, metavar="FILE", help="of training or import-released (those that come along)")
    add(
        "--reference",
        default="none",
        metavar="FILE|DIR|INDEX|none",
        help="sharp image of the place, or of similar ones (none)",
    )
    add("--steps", type=int, metavar="K", help="sampling steps (as the weights' options say)")
    add(
        "--strength", type=float, metavar="S",
        help="of the reference, 0 to 1, 1 being as trained (as the weights' options say)",
    )  # fmt: skip
    add(
        "--fidelity", type=float, metavar="F",
        help="0 (most realistic: sampled as trained) to 1 (most faithful: the residual alone, no noise); (as the "
        "weights' options say)",
    )  # fmt: skip
    add(
        "--ensemble", action=argparse.BooleanOptionalAction,
        help="take the mean over all eight flips and rotations: nearer to the truth, in eight times the time (as the "
        "weights' options say)",
    )  # fmt: skip
    add("--samples", type=int, default=1, metavar="N", help="take the mean of N; NAME_std.tif tells where they differ")
    add("--seed", type=int, default=10, metavar="S", help="of the noise (10)")
    add("--consistent", action="store_true", help="make the result's bicubic reduction equal the input")
    add("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:N")
    add("--precision", default="float32", choices=("float32", "tf32", "bfloat16", "float16"), help="of the networks")
    add("--tile", type=int, default=256, metavar="PIXELS", help="side of the tiles, in pixels of the result (256)")
    add("--overlap", type=int, default=32, metavar="PIXELS", help="least overlap of tiles, which are blended (32)")
    add("--batch", type=int, metavar="N", help="tiles at once (1 on a CPU, 8 on a GPU)")
    add("--bands", type=_bands, metavar="R,G,B", help="of TIFFs: which bands the model sees (those marked as colours)")
    add("--other-bands", default="drop", choices=("drop", "bicubic"), help="of TIFFs: what becomes of the other bands")
    add(
        "--range", type=_range, metavar="LOW,HIGH",
        help="of TIFFs: the values that are black and white (8 bits: 0,255; else the 0.1 and 99.9 percentiles); with a "
        "negative one, as --range=-25,0",
    )  # fmt: skip
    add("--format", default="auto", choices=("auto", "tiff", "png", "jpeg", "webp"), help="of results (the input's)")
    add("--overwrite", action="store_true", help="replace results that were made with other options")


def run(args: argparse.Namespace) -> int:
    """Upscale, tell what failed; the exit code says how many."""
    from ttrd3.engine import distributed
    from ttrd3.inference.share import Share

    with distributed.joined(cuda=distributed.uses_cuda(args.device)) as world:
        if not world.main:
            logging.getLogger("ttrd3").setLevel(logging.CRITICAL)  # the main process speaks
        try:
            report = _upscale(args, world, Share(world.rank, world.size, world.gather))
        except UserError as error:
            if world.first_to_say(str(error)):
                raise
            return 2
        return _told(report, speak=world.main)


def _upscale(args: argparse.Namespace, world, share) -> "Report":
    from ttrd3.engine.build import build_device
    from ttrd3.files import require_writable
    from ttrd3.inference.batch import find_inputs, upscale_files
    from ttrd3.inference.file_options import FileOptions
    from ttrd3.inference.upscaler import Upscaler
    from ttrd3.inference.weights import SHIPPED

    if args.samples < 1:
        raise UserError(f"--samples: found {args.samples}, expected at least 1.")
    inputs = find_inputs(args.inputs)
    require_writable(args.out, "--out")
    upscaler = Upscaler.from_file(
        args.weights or SHIPPED, build_device(args.device, world), steps=args.steps, strength=args.strength,
        fidelity=args.fidelity, ensemble=args.ensemble, seed=args.seed, tile=args.tile, overlap=args.overlap,
        precision=args.precision, consistent=args.consistent, batch_size=args.batch,
    )  # fmt: skip
    reference = None if args.reference == "none" else Path(args.reference)
    options = FileOptions(
        reference, args.samples, args.bands, args.other_bands, args.range, args.format, args.overwrite
    )
    return upscale_files(upscaler, inputs, args.out, options, share)


def _told(report: "Report", speak: bool) -> int:
    if speak:
        for _, message in report.failed:
            print(f"ttrd3: error: {message}", file=sys.stderr)
        if report.failed:
            finished = len(report.done) + len(report.kept)
            print(f"{len(report.failed)} of {len(report.failed) + finished} inputs failed", file=sys.stderr)
    return FAILED + min(len(report.failed), MOST_FAILED) if report.failed else 0


def _bands(text: str) -> tuple[int, ...]:
    """ "4,3,2" -> (4, 3, 2)."""
    bands = tuple(int(word) if word.strip().isdecimal() else 0 for word in text.split(","))
    if len(bands) != 3 or min(bands) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected three band numbers from 1, as 4,3,2")
    return bands


def _range(text: str) -> tuple[float, float]:
    """ "0,10000" -> (0.0, 10000.0)."""
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not float("-inf") < low < high < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected two numbers, the lower first, as 0,10000")
    return low, high
