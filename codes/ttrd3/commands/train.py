"""Train a model, then validate it; the same command again goes on where it stopped.

  ttrd3 train options/quickstart.yml
  ttrd3 train options/TTRD3.yml data.train.root=datasets/AID data.val.root=datasets/AID
  ttrd3 train options/TTRD3.yml name=width32 model.unet.width=32

Where train.start_from names an options file, that training comes first; of this command line it takes what says where
data and results lie (output, data.*.root, data.*.index) and what the machine can do (device, train.precision, ...).

Every visible GPU takes part, by one process each (train.processes); under torchrun, the processes that it started.

The run folder (output/name) then holds: options.yml (resolved), environment.json (versions, commit, seed), train.log,
tensorboard/, checkpoints/, weights.safetensors, with train.best also best.safetensors, and validation/STEP/ with
results.json, per_image.csv, results.md and pictures. Ctrl-C finishes the step at hand, saves and stops.
"""

import argparse
import logging

from ttrd3.commands.arguments import add_options_arguments
from ttrd3.errors import UserError

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options file and its overrides."""
    add_options_arguments(parser)
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with a run although options that influence its weights have changed",
    )


def run(args: argparse.Namespace) -> int:
    """Train; 130 if interrupted."""
    from ttrd3.engine import distributed, launch
    from ttrd3.engine.options import load_options
    from ttrd3.engine.stages import require, stages

    options = load_options(args.options)
    trainings = stages(options, args.options)
    count = launch.processes(trainings)
    if count > 1 and not distributed.world_size():
        return launch.launch(_words(args), count)
    with distributed.joined(cuda=distributed.uses_cuda(options.device)) as world:
        if not world.main:
            logging.getLogger("ttrd3").setLevel(logging.CRITICAL)  # the main process speaks
        try:
            require(trainings[1:], world)
            codes = (_train(training, world, args.accept_changes) for training in trainings)
            return next(filter(None, codes), 0)  # the first that does not end well ends it
        except UserError as error:
            if world.first_to_say(str(error)):
                raise
            return 2


def _train(options, world, accept_changes: bool) -> int:
    from ttrd3.engine.run_folder import step_label
    from ttrd3.engine.trainer import Trainer

    trainer = Trainer(options, world, accept_changes)
    found = trainer.run()
    if trainer.interrupted:
        return INTERRUPTED
    if world.main:
        folder = trainer.folder.validation(step_label(trainer.step))
        if found is not None:
            print(found.results.table(found.protocol))
        print(
            f"\nweights   {trainer.folder.weights}\nresults   {folder / 'results.md'}\npictures  {folder / 'pictures'}"
        )
    return 0


def _words(args: argparse.Namespace) -> list[str]:
    """The command line again, for the processes that are started."""
    volume = [flag for flag, given in (("-v", args.verbose), ("-q", args.quiet)) if given]
    changes = ["--accept-changes"] if args.accept_changes else []
    return [*volume, "train", *args.options, *changes]
