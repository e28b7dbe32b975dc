"""Options that change what given weights do, not which parameters there are: they may differ from the weights' own.

So the effect of each can be studied on weights that were trained otherwise, such as the authors'.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ttrd3.errors import CheckpointError

BEHAVIOUR = frozenset(
    {
        "model.encoder.value_range",
        "model.transfer.selection",
        "model.transfer.matches",
        "model.transfer.normalization",
    }
)
LOGITS = "transfer.k_logits."  # the chances of K, a vector for each of the levels 3, 2, 1: only `learned` has them

Change = tuple[str, Any, Any]  # name, value in the file, value in the options


def fit_selection(state: dict[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """A file's parameters as the model's own `selection` and `matches` take them.

    `fixed` has no chances of K: the file's are left out. `learned` takes the chances of K = 1..matches, that is of K
    given that it is no larger.

    Raises:
        CheckpointError: The file has no chances of K, or not up to `matches`.
    """
    fitted = {name: value for name, value in state.items() if not name.startswith(LOGITS)}
    for name, parameter in model.named_parameters():
        if not name.startswith(LOGITS):
            continue
        if name not in state:
            raise CheckpointError(
                f"{path}: model.transfer.selection: found learned, but these weights, made with a fixed K, hold no "
                "chances of K. Set it to fixed."
            )
        if len(state[name]) < len(parameter):
            raise CheckpointError(
                f"{path}: model.transfer.matches: found {len(parameter)} at level {3 - int(name[len(LOGITS) :])}, but "
                f"these weights hold chances of K = 1 to {len(state[name])}. Set at most that, or selection=fixed."
            )
        fitted[name] = state[name][: len(parameter)]
    return fitted


def described(changes: list[Change]) -> dict[str, str]:
    """What a table must say of changed behaviour: {option: "overlap (weights: released)"}."""
    return {name: f"{ours} (weights: {theirs})" for name, theirs, ours in changes}


def label(changes: list[Change]) -> list[str]:
    """Parts of a folder's name that tell changed behaviour apart: "normalization-overlap", "matches-5.5.5"."""
    values = ((name, ours if isinstance(ours, list) else [ours]) for name, _, ours in changes)
    return [f"{name.rpartition('.')[2]}-{'.'.join(map(str, parts))}" for name, parts in values]
