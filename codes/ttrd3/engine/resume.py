"""Where a run goes on: the newest whole checkpoint, and whether its options are still those of the run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttrd3.engine import checkpoint
from ttrd3.engine.options import Options
from ttrd3.engine.run_folder import step_label
from ttrd3.errors import CheckpointError
from ttrd3.inference.weights import DamagedError, Stored

# Options without influence on the weights that training arrives at (but for rounding).
FREE = checkpoint.FREE | {
    *("name", "output", "device", "weights"),
    *("train.start_from", "train.max_skipped"),
    *("train.processes", "train.channels_last", "train.compile", "train.gradient_checkpointing"),
    *("train.cache", "train.workers", "train.log_every"),
    *("train.validate_every", "train.checkpoint_every", "train.keep_checkpoints", "train.best", "train.patience"),
}
FREE_SECTIONS = ("val.", "data.val.", "sampling.")


@dataclass
class Resumed:
    """A checkpoint to go on from, and what the user should know about it."""

    stored: Stored
    notes: list[str] = field(default_factory=list)


def newest_whole(paths: list[Path]) -> Resumed:
    """The first of a run's checkpoints, newest first and at least one, that is not damaged.

    Raises:
        CheckpointError: All are damaged, or one was written by a newer ttrd3.
    """
    notes = []
    for path in paths:
        try:
            stored = checkpoint.load(path)
            if stored.kind != checkpoint.CHECKPOINT:
                raise DamagedError(f"{path}: holds weights alone, expected a checkpoint that training wrote.")
            if path.stem != step_label(stored.step):
                raise DamagedError(f"{path}: holds step {stored.step}; it was renamed, or its header altered.")
        except DamagedError as error:
            notes.append(str(error))
        else:
            if notes:
                notes.append(f"falls back to the checkpoint before, {path.name}")
            return Resumed(stored, notes)
    listed = "\n".join(notes)
    raise CheckpointError(
        f"{listed}\nNo checkpoint of this run is whole. To start it anew, delete {paths[0].parent}; to start "
        "from other weights, set train.start_from to them under another name."
    )


def require_same_run(resumed: Resumed, options: Options, accept_changes: bool) -> None:
    """Refuse to go on with other options than before; what may change is noted.

    Raises:
        CheckpointError: Lists what differs, with both values. Another architecture can never go on.
    """
    stored = resumed.stored
    checkpoint.require_same_architecture(stored, options)
    if stored.step > options.train.steps:
        raise CheckpointError(
            f"{stored.path}: is at step {stored.step}, but train.steps is {options.train.steps}. "
            "Raise train.steps, or choose another name for a new run."
        )
    changed = checkpoint.changed_options(stored, options)
    lines = [f"{name}: {then!r} when this run was last saved, now {now!r}" for name, then, now in changed]
    free = _free(stored.options, options)
    refused = [line for (name, *_), line in zip(changed, lines, strict=True) if not _is_free(name, free)]
    if refused and not accept_changes:
        listed = "\n  ".join(refused)
        raise CheckpointError(
            f"{stored.path.parent.parent}: this run was trained with other options:\n  {listed}\n"
            "Set them back, choose another name for a new run, or add --accept-changes to go on with the new ones."
        )
    resumed.notes += lines


def _free(then: dict[str, Any], options: Options) -> set[str]:
    """FREE, and what is free in this case."""
    free, train = set(FREE), options.train
    former = then.get("train", {})
    if train.schedule == "constant" == former.get("schedule"):
        free.add("train.steps")  # the learning rate does not depend on the end
    if train.batch_size * train.accumulation == former.get("batch_size", 0) * former.get("accumulation", 0):
        free |= {"train.batch_size", "train.accumulation"}
    return free


def _is_free(name: str, free: set[str]) -> bool:
    return name in free or name.startswith(FREE_SECTIONS)
