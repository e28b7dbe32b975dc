"""What every test of bad input asks: one message, exit code 2, no traceback, nothing half-written."""

import shutil

import pytest
from helpers import TINY

from ttrd3.__main__ import main
from ttrd3.environment import ROOT
from ttrd3.files import PARTIAL

QUICK = str(ROOT / "options" / "quickstart.yml")


@pytest.fixture
def refused(tmp_path, capsys):
    """`refused(word, ...)` runs `ttrd3 word ...`, expects it to be refused, and returns the message."""

    def run(*words) -> str:
        before = set(tmp_path.rglob("*"))
        code = main([str(word) for word in words])
        err = capsys.readouterr().err
        assert code == 2, err
        assert err.count("ttrd3: error: ") == 1
        assert "Traceback" not in err
        new = set(tmp_path.rglob("*")) - before
        assert not [path for path in new if path.name.endswith(PARTIAL)]
        if words[0] == "train":
            assert not new, "it failed before step 0, so there is nothing to keep"
        return err.partition("ttrd3: error: ")[2]

    return run


@pytest.fixture
def tiny_words(tmp_path):
    """`tiny_words(command, setting, ...)` -> the words of a tiny run under tmp_path/runs."""

    def words(command: str, *settings: str) -> list[str]:
        return [command, QUICK, *TINY, f"output={tmp_path / 'runs'}", *settings]

    return words


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    runs = tmp_path_factory.mktemp("trained")
    assert main(["-q", "train", QUICK, *TINY, f"output={runs}", "val.save_images=false"]) == 0
    return runs / "quickstart"


@pytest.fixture
def trained(_trained, tmp_path):
    """A run folder of four steps with checkpoints at 2 and 4, free to be damaged."""
    return shutil.copytree(_trained, tmp_path / "runs" / "quickstart")
