"""`ttrd3 report`: the file and what it says; tests/reports/test_report_in_browser.py looks at it."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ttrd3.__main__ import main
from ttrd3.environment import ROOT


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of scripts by id."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.scripts: dict[str, str] = {}
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id") if tag == "script" else None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


@pytest.fixture
def report(tmp_path, capsys):
    """`report(word, ...)` -> text of the page."""

    def make(*words) -> str:
        out = tmp_path / "out" / "report.html"
        code = main(["report", *map(str, words), "--out", str(out)])
        assert code == 0, capsys.readouterr().err
        return out.read_text(encoding="utf-8")

    return make


def data_of(page: str) -> dict:
    return json.loads(Elements(page).scripts["report-data"])


def test_the_page_needs_nothing_else(report, validations):
    page = report(validations.with_reference, validations.without)
    for tag, attributes in Elements(page).found:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "action"):
            target = attributes.get(name, "")
            assert target == "" or target.startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert not re.search(r"url\((?!data:)", page)
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_every_image_has_its_pictures(report, validations):
    page = report(validations.with_reference, validations.without)
    scripts, data = Elements(page).scripts, data_of(page)
    assert [view["label"] for view in data["views"]] == [
        "LR", "Bicubic", "SR A", "SR B", "Reference", "HR", "Error of bicubic", "Error of SR A", "Error of SR B",
        "Reference use, A",
    ]  # fmt: skip
    stored = {"lr", "hr", "sr0", "sr1", "reference0", "use0"}
    for number in range(6):
        assert {key.split("-")[2] for key in scripts if key.startswith(f"picture-{number}-")} == stored
    assert len(data["images"]) == 6
    assert data["images"][0]["bicubic"].keys() == {"psnr", "ssim", "consistency"}


def test_one_run_alone(report, validations):
    data = data_of(report(validations.without))
    labels = [view["label"] for view in data["views"]]
    assert labels == ["LR", "Bicubic", "SR", "HR", "Error of bicubic", "Error of SR"]


def test_the_numbers_stand_in_the_page_without_scripts(report, validations):
    means = json.loads((validations.with_reference / "results.json").read_text())
    page = report(validations.with_reference, validations.without)
    assert f"<b>{means['ttrd3']['psnr']:.2f}</b>" in page
    assert f"<b>{means['bicubic']['ssim']:.4f}</b>" in page
    assert "26.7812" in page
    assert "Not to be compared number by number" in page
    assert "none of the paper&#x27;s four sets" in page
    assert "channels RGB, border 0, window 7x7 uniform" in page
    assert "LR, HR, SR, references, maps of reference use: lossless WebP" in page


def test_fewer_images_are_spread_from_the_worst_to_the_best(report, validations):
    everything = data_of(report(validations.without))["images"]
    few = data_of(report(validations.without, "--images", "2"))["images"]

    def gain(image):
        return image["runs"][0]["psnr"] - image["bicubic"]["psnr"]

    gains = sorted(map(gain, everything))
    assert sorted(map(gain, few)) == [gains[0], gains[-1]]
    page = report(validations.without, "--images", "2")
    assert "2 of 6, evenly spread" in page
    assert "the numbers are of all 6" in page


def test_a_smaller_file_says_what_it_gave_up(report, validations):
    lossless = len(report(validations.with_reference))
    assert lossless < 600_000
    page = report(validations.with_reference, "--megabytes", "0.4")
    assert len(page) <= 400_000
    assert re.search(r"JPEG 4:4:4 of quality \d+", page)
    assert "differs from the original, on average and in grey levels of 255" in page


def test_names_cannot_break_out_of_the_page(report, copied):
    odd = copied.run.with_name("<img src=x onerror=alert(1)>")
    copied.run.rename(odd)
    page = report(odd / "validation" / copied.with_reference.name)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_the_default_place_is_the_first_validation(copied, capsys):
    assert main(["report", str(copied.without), str(copied.with_reference)]) == 0
    assert (copied.without / "report.html").is_file()
    assert str(copied.without / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "0"], "--images: found 0, expected a number above 0"),
        (["--megabytes", "0.1"], "--megabytes: found 0.1, expected more"),
        (["--megabytes", "0.31"], "--megabytes: the pictures do not fit"),
    ],
)
def test_mistakes(validations, tmp_path, capsys, words, message):
    out = tmp_path / "report.html"
    assert main(["report", str(validations.without), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_as_out(validations, tmp_path, capsys):
    assert main(["report", str(validations.without), "--out", str(tmp_path)]) == 2
    assert "is a folder, expected a file" in capsys.readouterr().err


def test_data_that_has_gone_writes_nothing(copied, tmp_path, capsys):
    copied.data.rename(copied.data.with_name("elsewhere"))
    assert main(["report", str(copied.without), "--out", str(tmp_path / "report.html")]) == 2
    assert "--data DIR" in capsys.readouterr().err
    assert not list(tmp_path.glob("report*"))
    words = ["report", str(copied.without), "--data", str(copied.data.with_name("elsewhere"))]
    assert main([*words, "--out", str(tmp_path / "report.html")]) == 0


def test_a_wheel_holds_the_page(tmp_path):
    """An editable installation reads the checkout; a wheel must bring templates, styles and scripts along."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "codes", checkout / "codes", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(checkout)], check=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = {Path(name).name for name in wheel.namelist() if name.startswith("ttrd3/reports/page/")}
    assert inside == {path.name for path in (ROOT / "codes/ttrd3/reports/page").iterdir()}
