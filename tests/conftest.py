"""Fixtures that several test files share."""

import pytest
import torch
from helpers import TINY, load_golden

from ttrd3.engine.options import load_options
from ttrd3.environment import ROOT


@pytest.fixture(scope="session")
def golden():
    """`golden(name)` -> arrays."""
    return load_golden


@pytest.fixture
def tiny(tmp_path):
    """`tiny("section.key=value", ...)` -> options of a tiny run under tmp_path/runs."""

    def make(*settings):
        return load_options([str(ROOT / "options" / "quickstart.yml"), *TINY, f"output={tmp_path / 'runs'}", *settings])

    return make


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
