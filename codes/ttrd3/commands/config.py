"""Check an options file and print the resolved options, defaults included; or write the schema for editors.

ttrd3 config options/TTRD3.yml train.steps=1000
ttrd3 config --schema > options/schema.json
ttrd3 config --describe > options/README.md
"""

import argparse
import json

from ttrd3.commands.arguments import add_options_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options file, its overrides, and what to print."""
    add_options_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--schema", action="store_true", help="print the JSON schema of option files")
    what.add_argument("--describe", action="store_true", help="print every option and its meaning as Markdown")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from ttrd3 import config
    from ttrd3.engine.options import Options, load_options
    from ttrd3.reports.options_table import options_table

    if args.schema:
        print(json.dumps(Options.model_json_schema(), indent=1))
    elif args.describe:
        print(options_table(Options.model_json_schema()))
    else:
        print(config.to_yaml(load_options(args.options)), end="")
    return 0
