"""A released checkpoint -> our parameters, and the options under which they do what the authors' code does."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.errors import CheckpointError
from ttrd3.released.inventory import UNET, Inventory
from ttrd3.released.keys import texture_net_state, unet_state
from ttrd3.released.layout import HIDDEN, SCHEDULES, TEXTURE_WIDTHS, TIMESTEPS, WIDTHS

LOGITS = "STTG.k_selector.k_logits"


@dataclass(frozen=True)
class Converted:
    """Our parameters by our names, and sections of options.

    `state` holds `transfer.k_logits.*` too, which the options' `selection: fixed` does not use and `learned` would.
    """

    state: dict[str, Tensor]
    options: dict[str, Any]
    matches: list[int]


def convert(inventory: Inventory) -> Converted:
    """Take the averaged UNet and the chosen texture net.

    Raises:
        CheckpointError: A buffer is not what the released options give, or a value is no finite number.
    """
    sum_scale = _sum_scale(inventory)
    for network, tensors in inventory.networks.items():
        _require_buffers(inventory, network, tensors, sum_scale)
    source = inventory.networks[inventory.texture_net]
    state = unet_state(inventory.networks[UNET])[0] | texture_net_state(source)[0]
    # The rows belong to levels 3, 2, 1, in this order, as ours do.
    state |= {f"transfer.k_logits.{level}": row for level, row in enumerate(source[LOGITS])}
    _require_finite(inventory, state)
    matches = [int(row.argmax()) + 1 for row in source[LOGITS]]
    state = {name: value.float() for name, value in state.items()}
    return Converted(state, _options(inventory.variant, matches, sum_scale), matches)


def _options(variant: str, matches: list[int], sum_scale: float) -> dict[str, Any]:
    """What decides the result, section by section; the rest is free."""
    return {
        "model": {
            "encoder": {
                "type": "MFAB",
                "block": "released",
                "widths": list(TEXTURE_WIDTHS),
                "hidden": HIDDEN,
                "blocks": 2,
                "value_range": "released",
            },
            "transfer": {"type": "STTG", "selection": "fixed", "matches": matches, "normalization": "released"},
            "unet": {"type": variant, "width": WIDTHS[0], "multipliers": [width // WIDTHS[0] for width in WIDTHS]},
        },
        "diffusion": {
            "timesteps": TIMESTEPS,
            "alpha_schedule": "decreasing",
            "beta_schedule": "increasing",
            "sum_scale": sum_scale,
            "objective": "pred_res_noise",
        },
        "sampling": {"steps": 10, "eta": 0.0, "reference_strength": 1.0},
    }


def _sum_scale(inventory: Inventory) -> float:
    """The total noise variance, to the digits that float32 keeps."""
    total = float(f"{float(inventory.networks[UNET]['betas2_cumsum'][-1]):.6g}")
    if not 0 < total < float("inf"):
        raise CheckpointError(
            f"{inventory.path}: {UNET}.betas2_cumsum ends at {total}, expected the total noise variance, above 0. "
            "The file was altered; download it again."
        )
    return total


def _require_buffers(inventory: Inventory, network: str, tensors: dict[str, Tensor], sum_scale: float) -> None:
    """Refuse buffers that the options would not give again."""
    process = DiffusionProcess(TIMESTEPS, "decreasing", "increasing", sum_scale)
    for key, found in tensors.items():
        if key in SCHEDULES:
            expected = getattr(process, SCHEDULES[key])
            what = f"T = {TIMESTEPS} and sum_scale = {sum_scale:g} (alpha decreasing, beta increasing)"
        elif key.endswith(".grid"):
            axis = torch.linspace(-1, 1, found.shape[-1])
            expected, what = torch.stack(torch.meshgrid(axis, axis, indexing="ij")), "coordinates from -1 to 1"
        else:
            continue
        # Released tables were summed in other precision, and averaged ones have been through the average.
        if not torch.allclose(found.float(), expected, rtol=1e-3, atol=1e-6 if key.endswith(".grid") else 1e-9):
            raise CheckpointError(
                f"{inventory.path}: {network}.{key} does not agree with {what}. "
                "Only checkpoints of the released process can be imported."
            )


def _require_finite(inventory: Inventory, state: dict[str, Tensor]) -> None:
    damaged = [name for name, value in state.items() if not value.isfinite().all()]
    if damaged:
        raise CheckpointError(
            f"{inventory.path}: {len(damaged)} of {len(state)} tensors hold values that are no finite numbers, as "
            f"{damaged[0]}. The file was altered or the training failed; use another."
        )
