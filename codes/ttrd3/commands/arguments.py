"""Arguments that several commands share."""

import argparse


def add_options_arguments(parser: argparse.ArgumentParser, default: str = "options/TTRD3.yml") -> None:
    """`[OPTIONS.yml] [section.key=value ...]`."""
    parser.add_argument(
        "options",
        nargs="*",
        metavar="OPTIONS.yml | section.key=value",
        help=f"an options file (default: {default}) and settings that override it, e.g. train.steps=1000; "
        "entries of lists are numbered from 0: losses.0.weight=2",
    )
