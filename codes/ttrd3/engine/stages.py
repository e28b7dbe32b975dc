"""Trainings that begin where another ends: `train.start_from` may name the other's options file."""

from collections.abc import Sequence
from fnmatch import fnmatch

from ttrd3.engine import build
from ttrd3.engine.behaviour import BEHAVIOUR
from ttrd3.engine.checkpoint import FREE, SECTIONS, differences
from ttrd3.engine.distributed import World
from ttrd3.engine.options import Options, load_options
from ttrd3.engine.run_folder import RunFolder
from ttrd3.engine.validation import make_validator
from ttrd3.errors import ConfigError
from ttrd3.paths import input_path

OPTIONS_FILES = (".yml", ".yaml")
# Where data lie and what the machine can do: what the command line says of it holds for every training.
SHARED = (
    "output", "device", "data.*.root", "data.*.index", "train.processes", "train.precision", "train.channels_last",
    "train.compile", "train.gradient_checkpointing", "train.cache", "train.workers",
)  # fmt: skip


def stages(options: Options, words: Sequence[str] = ()) -> list[Options]:
    """The trainings that `options` asks for, in order: itself the last, with the weights that the one before leaves.

    Args:
        options: Of the last training.
        words: The command line that they come from; of its settings, the earlier trainings take those of `SHARED`.

    Raises:
        UserError: A file that cannot be read, or trainings that begin where each other ends, or of different networks.
    """
    shared = [word for word in words if any(fnmatch(word.partition("=")[0], name) for name in SHARED)]
    found, folders = [options], {RunFolder(options).path}
    while (start := found[0].train.start_from) is not None and start.endswith(OPTIONS_FILES):
        before = load_options([str(input_path(start)), *shared])
        folder = RunFolder(before)
        if folder.path in folders:
            raise ConfigError(
                f"train.start_from: found {start}, whose run folder is {folder.path} as well, that is, a training "
                "that would begin where it ends. Give each options file its own name, and one of them no start_from."
            )
        folders.add(folder.path)
        _require_same_networks(start, before, found[0])
        train = found[0].train.model_copy(update={"start_from": str(folder.weights)})
        found[:1] = [before, found[0].model_copy(update={"train": train})]
    return found


def require(trainings: Sequence[Options], world: World) -> None:
    """Build what trainings need besides weights: their images, metrics, and the trunks of losses.

    Told now, not when the first of them has ended.

    Raises:
        UserError: What cannot be used.
    """
    for options in trainings:
        device = build.build_device(options.device, world)
        build.build_dataset(options.data.train, options.seed, device)
        make_validator(options, device, world)
        build.build_losses(options, device)


def _require_same_networks(file: str, before: Options, options: Options) -> None:
    """Told now, not when the first training has ended."""
    for name, theirs, ours in differences(before.model_dump(), options.model_dump(), SECTIONS):
        if name not in FREE | BEHAVIOUR:
            raise ConfigError(
                f"{name}: found {ours!r}, but {file}, whose weights train.start_from takes, has {theirs!r}. "
                "Give both the same networks and process."
            )
