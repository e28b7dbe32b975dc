"""Compare validations on the terminal: every metric on the images they share, with differences to the first run.

  ttrd3 compare runs/ucmerced runs/ucmerced-longer
  ttrd3 compare runs/ucmerced/validation/*same_class* runs/ucmerced/validation/*none* --per-class

RUN is a run folder, whose newest validation is taken, or a validation folder. Each metric comes with the 95% bootstrap
interval of the mean difference over images and a paired test. Exit code 1 tells that the protocols or the data differ,
which is then said on standard error.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run or validation folders; the first is A")
    parser.add_argument("--per-class", action="store_true", help="show the differences of every class too")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; 1 where it does not compare like with like."""
    import logging

    from ttrd3.errors import UserError
    from ttrd3.reports.comparison import compare, warnings
    from ttrd3.reports.runs import read_runs

    if len(args.runs) < 2:
        raise UserError("ttrd3 compare: found one run, expected at least two. `ttrd3 report RUN` shows a single one.")
    runs = read_runs(args.runs)
    found = warnings(runs)
    print(compare(runs, per_class=args.per_class), end="")
    for warning in found:
        logging.getLogger(__name__).warning("warning: %s", warning)
    return 1 if found else 0
