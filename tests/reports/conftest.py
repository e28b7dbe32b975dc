"""Real validations to report on, and a real browser to look at the report with."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from data.builders import prepared
from helpers import TINY

from ttrd3.engine.options import load_options
from ttrd3.engine.trainer import Trainer
from ttrd3.engine.validation import validate_weights
from ttrd3.environment import ROOT
from ttrd3.reports.page import write_report
from ttrd3.reports.runs import read_runs

VAL = {"val": ["*0[0-2].*"]}


@dataclass(frozen=True)
class Validated:
    """Data of two classes with three validation tiles of 64 x 64 each, and two validations of one tiny model."""

    data: Path
    run: Path
    with_reference: Path
    without: Path


@pytest.fixture(scope="session")
def validations(tmp_path_factory) -> Validated:
    """To be read only."""
    base = tmp_path_factory.mktemp("validated")
    data = prepared(base, {"beach": 5, "harbor": 5}, VAL, side=64)
    settings = [f"output={base / 'runs'}", "name=tiny", "train.steps=1", "data.val.crop=null", "data.val.limit=null"]
    settings += [f"data.{part}.root={data}" for part in ("train", "val")]

    def options(*more: str):
        return load_options([str(ROOT / "options" / "quickstart.yml"), *TINY, *settings, *more])

    Trainer(options("val.pictures=0", "val.save_images=false")).run()
    _, with_reference = validate_weights(options())
    _, without = validate_weights(options("data.val.reference=none"))
    return Validated(data, base / "runs" / "tiny", with_reference, without)


@pytest.fixture
def copied(validations, tmp_path) -> Validated:
    """The same, to be spoilt."""
    run = tmp_path / "copy" / "tiny"
    shutil.copytree(validations.run, run)
    data = tmp_path / "data"
    shutil.copytree(validations.data, data)
    folders = [run / "validation" / folder.name for folder in (validations.with_reference, validations.without)]
    for folder in folders:
        change_protocol(folder, data=str(data))
    return Validated(data, run, *folders)


def change_protocol(folder: Path, **changes) -> None:
    """Set keys of the protocol in a validation's results.json; None removes one."""
    path = folder / "results.json"
    document = json.loads(path.read_text())
    document["protocol"] = {k: v for k, v in (document["protocol"] | changes).items() if v is not None}
    path.write_text(json.dumps(document))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A real headless Chromium; what needs it is skipped where there is none."""
    from reports.browser import Browser

    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def page(validations, tmp_path_factory) -> Path:
    """The report of both validations."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(read_runs([validations.with_reference, validations.without]), out)
    return out
