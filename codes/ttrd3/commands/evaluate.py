"""Measure folders of super-resolved images against the truth, whoever made them: tables with their protocol.

  ttrd3 evaluate --sr runs/quickstart/validation/step-00000450/images --hr samples/neon/val/hr --lr samples/neon/val/lr
  ttrd3 evaluate --sr ours --hr hr --against theirs --out runs/ours-theirs
  ttrd3 evaluate --sr ours --hr hr --metrics psnr,channels=y,border=4 lpips,net=squeeze,file=squeezenet.pth fid

Images belong together by their path below the folders, without suffix, or else by their name; the class is the folder
an image lies in. Without --metrics it takes the paper's protocol (PSNR and SSIM on 8-bit RGB, no border, 7 x 7 window),
with --lr also LR consistency and the shares of improvement, omission and hallucination, and LPIPS, DISTS, FID and KID
where their weights are; a metric that is named has its weights downloaded. The exit code is 1 where a metric that was
named is not available.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ttrd3 evaluate`."""
    add = parser.add_argument
    add("--sr", type=Path, required=True, metavar="DIR", help="super-resolved images")
    add("--hr", type=Path, required=True, metavar="DIR", help="their truths, of the same size")
    add("--lr", type=Path, metavar="DIR", help="the low-resolution images: adds bicubic and tells the scale")
    add("--against", type=Path, metavar="DIR", help="a second method's images: differences and paired tests are to it")
    add(
        "--mask",
        type=Path,
        metavar="DIR",
        help="masks of prepared TIFFs (SPLIT/mask): where they are 0, nothing counts",
    )
    add("--out", type=Path, metavar="DIR", help="where to write results.json, per_image.csv and results.md")
    add(
        "--metrics",
        nargs="+",
        metavar="NAME[,option=value...]",
        help="what to measure; names and options as in options/README.md under val.metrics",
    )
    add("--device", default="auto", help="where networks of metrics work: auto (CUDA where there is one), cpu, cuda:N")
    add("--subset", action="store_true", help="HR images without SR are left out instead of being an error")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, and write the files if asked to; 0, or 1 if a named metric is not available."""
    from ttrd3.engine.build import build_device
    from ttrd3.files import require_writable
    from ttrd3.metrics.building import parse_metric
    from ttrd3.reports.evaluation import evaluate

    folders = {role: getattr(args, role) for role in ("sr", "hr", "lr", "against") if getattr(args, role) is not None}
    sections = None if args.metrics is None else [parse_metric(word) for word in args.metrics]
    if args.out is not None:
        require_writable(args.out, "--out")
    found = evaluate(folders, sections, masks=args.mask, device=build_device(args.device), subset=args.subset)
    print(found.results.table(found.protocol), end="")
    if args.out is not None:
        found.results.write(args.out, found.protocol)
        print(f"\nresults   {args.out / 'results.md'}")
    return 1 if sections is not None and found.results.unavailable else 0
