"""Make one HTML page to look at validations: slider, loupe, error maps, numbers beside the paper's.

  ttrd3 report runs/ucmerced
  ttrd3 report runs/ucmerced runs/ucmerced-longer --out comparison.html
  ttrd3 report runs/ucmerced --images 20 --megabytes 8 --data datasets/ucmerced

RUN is a validation folder, or a run folder, whose newest validation is taken. The page needs no network and no other
file. It reads HR, LR and references from the data set again, and shows how the reference changed the result where the
run folder also holds a validation of the same weights with data.val.reference=none (which, if it is the newest, is not
the one that is taken).
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, the file and its size."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run or validation folders; the first is compared with")
    add("--out", type=Path, metavar="FILE.html", help="the page (report.html in the folder of the first validation)")
    add("--images", type=int, default=100, metavar="N", help="show at most N images, from worst to best gain (100)")
    add("--megabytes", type=float, default=30, metavar="MB", help="largest file; pictures are stored to fit it (30)")
    add("--data", type=Path, metavar="DIR", help="where the data set lies now, if it has moved since validation")


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from ttrd3.data.descriptors import Descriptor
    from ttrd3.engine.build import build_device
    from ttrd3.errors import UserError
    from ttrd3.inference.describe import descriptor_of_index
    from ttrd3.reports.material import with_reference
    from ttrd3.reports.page import write_report
    from ttrd3.reports.runs import read_runs

    for name, value in (("--images", args.images), ("--megabytes", args.megabytes)):
        if not value > 0:
            raise UserError(f"{name}: found {value:g}, expected a number above 0.")
    runs = read_runs([with_reference(path) for path in args.runs])
    out = args.out or next(iter(runs.values())).folder / "report.html"
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder, expected a file. Write --out {out / 'report.html'}.")

    def describe(index: Path) -> Descriptor:
        return descriptor_of_index(index, build_device("auto"))

    packed = write_report(runs, out, images=args.images, megabytes=args.megabytes, data=args.data, describe=describe)
    for name, run in runs.items():
        print(f"{name}: {run.folder}")
    print(f"\n{len({number for number, _ in packed.data})} images, {out.stat().st_size / 1e6:.1f} MB\nreport    {out}")
    return 0
