"""Validate trained weights: PSNR, SSIM and more beside bicubic, as a table, files, pictures and a page to look at.

  ttrd3 val                           # the weights that come with ttrd3, on the embedded sample (options/sample.yml)
  ttrd3 val options/quickstart.yml
  ttrd3 val options/TTRD3.yml weights=ttrd3.safetensors sampling.steps=4 data.val.reference=none

Without weights=FILE it takes those that training with the same options left in its run folder. Results go to
output/name/validation/: results.json, per_image.csv, results.md, pictures/, images/ and report.html.
"""

import argparse

from ttrd3.commands.arguments import add_options_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options file and its overrides."""
    add_options_arguments(parser, default="options/sample.yml: the shipped weights on the embedded sample")


def run(args: argparse.Namespace) -> int:
    """Validate and print the table; 0, also where no report could be made of the results."""
    import logging
    from functools import partial

    from ttrd3.engine.options import SAMPLE_FILE, load_options
    from ttrd3.engine.validation import validate_weights
    from ttrd3.errors import UserError
    from ttrd3.inference.describe import descriptor_of_index
    from ttrd3.inference.device import find_device
    from ttrd3.reports.page import write_report
    from ttrd3.reports.runs import read_runs

    options = load_options(args.options, SAMPLE_FILE)
    found, folder = validate_weights(options)
    print(found.results.table(found.protocol))
    print(f"\nresults   {folder / 'results.md'}\npictures  {folder / 'pictures'}")
    if options.val.save_images:
        describe = partial(descriptor_of_index, device=find_device(options.device))
        try:
            write_report(read_runs([folder]), folder / "report.html", describe=describe)
        except UserError as error:  # the results are written: what they are shown with may fail
            logging.getLogger(__name__).warning(
                "warning: report.html was not made: %s The results above are all written; "
                "`ttrd3 report %s` makes it with other settings.",
                error,
                folder,
            )
        else:
            print(f"report    {folder / 'report.html'}   (open it in a browser)")
    return 0
