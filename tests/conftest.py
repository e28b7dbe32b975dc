"""Helpers that several test files share."""

from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).resolve().parent / "golden"


def load_golden(name: str) -> dict[str, torch.Tensor]:
    """Arrays of tests/golden/NAME.npz as tensors."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected| in the Euclidean norm."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))


@pytest.fixture(scope="session")
def golden():
    """`golden(name)` -> arrays."""
    return load_golden


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
