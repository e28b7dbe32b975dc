"""Numbers, options and settings of processes that several test files share."""

import signal
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parent / "golden"

TINY = [
    "device=cpu",
    "diffusion.timesteps=1000",
    "model.encoder={type: MFAB, block: paper, widths: [8, 8, 8], hidden: 4, blocks: 1}",
    "model.transfer={type: STTG, matches: [2, 2, 2]}",
    "model.unet={type: 1Net-A, width: 8, multipliers: [1, 1, 1]}",
    "data.train.crop=32",
    "data.val.crop=64",
    "data.val.limit=3",
    "sampling.steps=2",
    "train.steps=4",
    "train.batch_size=2",
    "train.warmup=0",
    "train.workers=0",
    "train.log_every=2",
    "train.checkpoint_every=2",
    "val.pictures=1",
]
"""Settings that make quickstart.yml a run small enough to train for real in a second."""

SMALL = [
    "model.encoder.widths=[8]",
    "model.transfer.matches=[2]",
    "model.unet={type: S, widths: [8, 12], encoder_blocks: [1, 1], decoder_blocks: [1]}",
]
"""After TINY: TTRD3-S instead, all of it at the LR image's size and below."""


def load_golden(name: str) -> dict[str, torch.Tensor]:
    """Arrays of tests/golden/NAME.npz as tensors."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected| in the Euclidean norm."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


def listen_to_ctrl_c() -> None:
    """For `preexec_fn`: what runs the tests may ignore Ctrl-C, as background jobs do, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
