"""Make a prepared data folder: HR tiles, their bicubic x1/4 LR, splits, a manifest with counts and checksums.

Sources (JPEG, PNG, TIFF, WebP; 8-bit RGB; TIFFs of any depth and number of bands with --bands and --scale):
  SOURCE/CLASS/NAME           class folders, as of AID, UC Merced, NWPU-RESISC45, RSD46-WHU
  SOURCE/NAME                 a bare folder of images, class "images"
  SOURCE/{hr,ref}/NAME        the same places twice, for `reference: paired` (CLASS/NAME in both works too)

With one of these two, pixels without data (nodata value, mask, NaN) are filled with their nearest neighbour and masked
out to where LR could have seen them, in SPLIT/mask/CLASS/NAME.png: losses and metrics leave them out, and such tiles
serve as no reference. 8-bit RGB TIFFs need --scale none for it.

The same command again resumes after an interruption and does nothing once finished.

Examples:
  ttrd3 prepare --source AID --out data/AID
  ttrd3 prepare --source RRSSRD/train --out data/RRSSRD --tile 480 --val 0.1 --test 0
  ttrd3 prepare --source UCMerced_LandUse/Images --out data/UCMerced --skip-bad
  ttrd3 prepare --source sentinel2 --out data/s2 --bands 4,3,2 --scale divide:10000
  ttrd3 prepare --source aerial16 --out data/aerial --bands 1,2,3 --scale percentiles:2,98
"""

import argparse
from pathlib import Path
from typing import Any

from ttrd3.data.manifest import MANIFEST, SPLITS, TILES
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare
from ttrd3.data.radiometry import parse_bands
from ttrd3.data.splits import DRAWN, read_list
from ttrd3.environment import cores
from ttrd3.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ttrd3 prepare`."""
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder of the raw images")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make, outside the source")
    add("--tile", type=int, default=256, metavar="PIXELS", help="side of the HR tiles, a multiple of 4 (256)")
    add("--stride", type=int, metavar="PIXELS", help="distance between tiles of one image (the tile: no overlap)")
    for split, share, use in (("val", 0.1, "validation"), ("test", 0.1, "the test"), ("ref", 0.0, "references alone")):
        add(f"--{split}", type=float, default=share, metavar="SHARE", help=f"share of images for {use} ({share:g})")
    for split in DRAWN:
        add(
            f"--{split}-list",
            type=Path,
            metavar="FILE",
            help=f"names or glob patterns relative to the source, one a line, that make up {split} instead of a share",
        )
    add("--paired", action="store_true", help="insist on paired hr/ and ref/ (which are recognised anyway)")
    add("--skip-bad", action="store_true", help="leave out images that cannot be used, listed in the manifest")
    add("--convert", action="store_true", help="turn grey, palette and fully opaque RGBA images into RGB, no loss")
    add("--bands", metavar="R,G,B", help="bands of TIFFs that become red, green, blue, counted from 1, as 4,3,2")
    add(
        "--scale",
        metavar="HOW",
        help="how values of TIFFs become 8 bits: none (they are); divide:N, [0, N] -> [0, 255]; percentiles:LOW,HIGH "
        "of the whole data set, one range a band. Implausible declarations are refused",
    )
    add(
        "--max-nodata",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="TIFF tiles with a larger share of pixels without data are left out (0.5)",
    )
    add("--workers", type=int, default=cores(), metavar="N", help="processes (all cores)")
    add("--overwrite", action="store_true", help="delete what prepare made in OUT before, and start anew")


def run(args: argparse.Namespace) -> int:
    """Prepare, then print counts and the lines for the options; 0 when finished."""
    lists = {split: getattr(args, f"{split}_list") for split in DRAWN}
    options = PrepareOptions(
        tile=args.tile,
        stride=args.tile if args.stride is None else args.stride,
        shares={split: getattr(args, split) for split in DRAWN},
        lists={split: read_list(path, f"--{split}-list") for split, path in lists.items() if path is not None},
        paired=args.paired,
        skip_bad=args.skip_bad,
        convert=args.convert,
        bands=None if args.bands is None else parse_bands(args.bands),
        scale=args.scale,
        max_nodata=args.max_nodata,
    )
    if args.workers < 1:
        raise UserError(f"--workers: found {args.workers}, expected at least 1. Leave it out for all cores.")
    manifest = prepare(args.source, args.out, options, workers=args.workers, overwrite=args.overwrite)
    print(_table(manifest))
    print(_findings(args.out, manifest))
    print(_option_lines(args.out, manifest))
    return 0


def _table(manifest: dict[str, Any]) -> str:
    """Number of tiles, a row per class, a column per split."""
    counts = manifest["counts"]
    classes = sorted({name for split in SPLITS for name in counts[split]})
    width = max(map(len, [*classes, "total"]))
    lines = [f"{'tiles':{width}}" + "".join(f"{split:>8}" for split in SPLITS)]
    for name in classes:
        lines.append(f"{name:{width}}" + "".join(f"{counts[split].get(name, 0):>8}" for split in SPLITS))
    lines.append(f"{'total':{width}}" + "".join(f"{sum(counts[split].values()):>8}" for split in SPLITS))
    return "\n".join(lines)


def _findings(out: Path, manifest: dict[str, Any]) -> str:
    lines = [
        f"{len(manifest[key])} {text}"
        for key, text in (
            ("left_out", "images left out (--skip-bad)"),
            ("not_images", "files left aside that are no images by their suffix"),
            ("duplicates_across_splits", "pairs of the same image in different splits"),
        )
        if manifest[key]
    ]
    listed = f"{'; '.join(lines)}: listed in {out / MANIFEST}\n" if lines else ""
    return f"{listed}{_radiometry(manifest)}checksums: {out / TILES}\n"


def _radiometry(manifest: dict[str, Any]) -> str:
    """What became of values and of pixels without data, a line each; empty for plain 8-bit RGB."""
    lines = []
    for kind, told in manifest.get("radiometry", {}).items():
        if told is None:
            continue
        bands = ", ".join(map(str, told["bands"]))
        if told["ranges"] is None:
            lines.append(f"{kind}: bands {bands}, 8-bit values as they are")
            continue
        ranges = ", ".join(f"{low:g}..{high:g}" for low, high in told["ranges"])
        below, above = told["clipped"]["below"], told["clipped"]["above"]
        lines.append(f"{kind}: bands {bands}, values {ranges} -> 0..255; clipped {below:.2%} below, {above:.2%} above")
    if nodata := manifest.get("nodata"):
        masked, left_out = nodata["tiles_masked"], nodata["tiles_left_out"]
        lines.append(f"pixels without data: {masked} tiles have a mask, {left_out} tiles left out (--max-nodata)")
    return "".join(f"{line}\n" for line in lines)


def _option_lines(out: Path, manifest: dict[str, Any]) -> str:
    """The data section of an option file for this folder."""
    reference = "paired" if manifest["paired"] else "same_class"
    held_out = next((split for split in ("val", "test") if manifest["counts"][split]), "val")
    lines = ["For your options:", "data:"]
    for section, split in (("train", "train"), ("val", held_out)):
        if manifest["counts"][split]:
            lines += [
                f"  {section}:",
                f"    root: {out.resolve()}",
                f"    split: {split}",
                f"    reference: {reference}",
            ]
    return "\n".join(lines)
