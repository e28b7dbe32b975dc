"""Train a model, then validate it; the same command again goes on where it stopped.

  ttrd3 train options/quickstart.yml
  ttrd3 train options/TTRD3.yml data.train.root=datasets/AID data.val.root=datasets/AID
  ttrd3 train options/TTRD3.yml name=width32 model.unet.width=32

The run folder (output/name) then holds: options.yml (resolved), environment.json (versions, commit, seed), train.log,
tensorboard/, checkpoints/, weights.safetensors, and validation/STEP/ with results.json, per_image.csv, results.md and
pictures. Ctrl-C finishes the step at hand, saves and stops.
"""

import argparse

from ttrd3.commands.arguments import add_options_arguments

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options file and its overrides."""
    add_options_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train; 130 if interrupted."""
    from ttrd3.engine.options import load_options
    from ttrd3.engine.run_folder import step_label
    from ttrd3.engine.trainer import Trainer

    trainer = Trainer(load_options(args.options))
    found = trainer.run()
    if not trainer.finished:
        return INTERRUPTED
    folder = trainer.folder.validation(step_label(trainer.step))
    if found is not None:
        print(found.results.table(found.protocol))
    print(f"\nweights   {trainer.folder.weights}\nresults   {folder / 'results.md'}\npictures  {folder / 'pictures'}")
    return 0
