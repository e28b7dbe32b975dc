"""Validate trained weights: PSNR, SSIM and more beside bicubic, as a table, files and pictures.

  ttrd3 val options/quickstart.yml
  ttrd3 val options/TTRD3.yml weights=ttrd3.safetensors sampling.steps=4 data.val.reference=none

Without weights=FILE it takes those that training with the same options left in its run folder. Results go to
output/name/validation/: results.json, per_image.csv, results.md, pictures/ and images/.
"""

import argparse

from ttrd3.commands.arguments import add_options_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options file and its overrides."""
    add_options_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Validate and print the table."""
    from ttrd3.engine.options import load_options
    from ttrd3.engine.validation import validate_weights

    found, folder = validate_weights(load_options(args.options))
    print(found.results.table(found.protocol))
    print(f"\nresults   {folder / 'results.md'}\npictures  {folder / 'pictures'}")
    return 0
