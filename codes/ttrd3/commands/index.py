"""Describe the sharp images of a folder, so that `reference: retrieved` finds for each LR image those most like it.

The library may be any folder of 8-bit RGB images and GeoTIFFs, at any depth (large ones are cut into tiles, GeoTIFFs
without reading them whole), or a folder that `ttrd3 prepare` made, of which train and ref are taken. Tiles are
described as they look after reduction by 4 and enlargement, by statistics of colour, gradients and spectrum, or, with
--weights, by the trained MFAB encoder. The same command again reads only files that are new or changed.

Examples:
  ttrd3 index --library scenes --out scenes.index
  ttrd3 index --library datasets/AID --out AID.index --weights runs/TTRD3/weights.safetensors
  ttrd3 train options/TTRD3.yml data.train.reference=retrieved data.train.index=AID.index data.train.top=5
"""

import argparse
import time
from pathlib import Path

from ttrd3.environment import cores
from ttrd3.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ttrd3 index`."""
    add = parser.add_argument
    add("--library", type=Path, required=True, metavar="DIR", help="folder of sharp images, or a prepared one")
    add("--out", type=Path, required=True, metavar="FILE", help="index file to make or to bring up to date")
    add("--tile", type=int, metavar="PIXELS", help="side of a tile: that of the images to restore (256)")
    add("--stride", type=int, metavar="PIXELS", help="distance between tiles of one image (the tile: no overlap)")
    add("--weights", type=Path, metavar="FILE", help="describe by the MFAB encoder of these weights")
    add("--device", default="auto", help="where the encoder computes: auto, cpu, cuda or cuda:N (auto)")
    add("--skip-bad", action="store_true", help="leave out files that cannot be used, listed in the index")
    add("--workers", type=int, default=cores(), metavar="N", help="processes (all cores); with --weights one")


def run(args: argparse.Namespace) -> int:
    """Make the index and say what became of it; 0 when finished."""
    from ttrd3.data.indexing import update_index
    from ttrd3.data.library import tile_of
    from ttrd3.engine.build import build_device
    from ttrd3.inference.describe import make_descriptor

    if args.workers < 1:
        raise UserError(f"--workers: found {args.workers}, expected at least 1. Leave it out for all cores.")
    started = time.monotonic()
    tile = tile_of(args.library) if args.tile is None else args.tile
    weights = None if args.weights is None else args.weights.resolve()
    found = update_index(
        args.library,
        args.out,
        make_descriptor(weights, build_device(args.device)),
        tile=tile,
        stride=tile if args.stride is None else args.stride,
        workers=args.workers,
        skip_bad=args.skip_bad,
        weights=weights,
    )
    print(
        f"{args.out}: {found.tiles} tiles of {tile} x {tile}; files: {found.new} new, {found.changed} changed, "
        f"{found.kept} unchanged, {found.deleted} deleted, {len(found.left_out)} left out; "
        f"{args.out.stat().st_size / 1e6:.1f} MB, {time.monotonic() - started:.0f} s"
    )
    print(f"For your options:\ndata:\n  train:\n    reference: retrieved\n    index: {args.out.resolve()}\n    top: 5")
    return 0
