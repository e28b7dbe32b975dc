"""Files in the layout of the authors' checkpoints: every key in its shape, but next to no bytes."""

import csv
from pathlib import Path
from typing import Any

import torch
from golden.rules import HERE, buffer
from networks.released import VARIANTS


def golden_layout(part: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of "refnet", "model:1net_a", ... as the golden list has them."""
    with (HERE / "released_checkpoint_keys.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["part"] == part]
    return {row["key"]: tuple(int(n) for n in row["shape"].strip("()").split(",") if n.strip()) for row in rows}


def hollow(part: str) -> dict[str, torch.Tensor]:
    """A state dict whose parameters are one number expanded to their shape; buffers have their true values."""
    state = {}
    for number, (key, shape) in enumerate(golden_layout(part).items()):
        value = buffer(key, shape)
        state[key] = torch.tensor(number / 1e4).expand(shape) if value is None else value
    return state


def hollow_checkpoint(variant: str = "1Net-A") -> dict[str, Any]:
    """The released file of a variant."""

    def ema(part: str) -> dict[str, torch.Tensor]:
        counters = {"initted": torch.tensor(True), "step": torch.tensor(300000)}
        online = {f"online_model.{key}": value for key, value in hollow(part).items()}
        return counters | online | {f"ema_model.{key}": value for key, value in hollow(part).items()}

    model = f"model:{VARIANTS[variant]}"
    return {
        "step": 300000, "model": hollow(model), "opt": {"state": {}, "param_groups": []}, "ema": ema(model),
        "scaler": None, "refnet": hollow("refnet"), "opt_ref": {}, "ema_ref": ema("refnet"),
    }  # fmt: skip


def saved(content: Any, path: Path) -> Path:
    """`content` written as the authors' code writes."""
    torch.save(content, path)
    return path
