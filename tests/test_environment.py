from pathlib import Path

import pytest

from ttrd3 import environment
from ttrd3.environment import Requirement, requirements


def test_reads_pins_in_order_with_what_is_installed(tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text("# why\npytest==0.0.1  # old\n\nno-such-package==2.0   # none\n-e .   # ours\n")
    found = requirements(file)
    assert [(pin.name, pin.expected) for pin in found] == [("pytest", "0.0.1"), ("no-such-package", "2.0")]
    assert found[0].found == pytest.__version__
    assert found[1].found is None
    assert not any(pin.satisfied for pin in found)


@pytest.mark.parametrize(
    ("found", "satisfied"),
    [
        ("2.14.1", True),
        ("2.14.1+cpu", True),
        ("2.14.1+cu130", True),
        ("2.14.10", False),
        ("2.14", False),
        (None, False),
    ],
)
def test_a_build_tag_makes_no_difference(found, satisfied):
    assert Requirement("torch", "2.14.1", found).satisfied is satisfied


def test_refuses_a_line_that_pins_nothing(tmp_path: Path):
    file = tmp_path / "requirements.txt"
    file.write_text("torch>=2\n")
    with pytest.raises(ValueError, match="'torch>=2', expected name==version"):
        requirements(file)


def test_this_environment_has_what_the_checkout_pins():
    assert environment.is_this_checkout()
    pins = requirements()
    assert "torch" in {pin.name for pin in pins}
    assert [pin for pin in pins if not pin.satisfied] == []


def test_commit_is_a_full_hash_in_a_checkout_and_none_elsewhere(tmp_path: Path, monkeypatch):
    if (environment.ROOT / ".git").exists():
        assert len(environment.commit().removesuffix("-dirty")) == 40
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit() is None
