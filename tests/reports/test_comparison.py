"""Runs against the first one: differences, tests, warnings."""

import csv

import numpy as np
import pytest
from reports.conftest import change_protocol
from scipy.stats import wilcoxon

from ttrd3.reports.comparison import against, compare, p_text, warnings
from ttrd3.reports.runs import read_runs


def shift(folder, metric: str, by: dict[str, float]) -> None:
    """Add `by[image]` to our values of a metric in per_image.csv."""
    path = folder / "per_image.csv"
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    for row in rows:
        if row["method"] == "ttrd3":
            row[metric] = repr(float(row[metric]) + by[row["image"]])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def shifted(validations, copied):
    """The same validation twice, the second with known changes of its PSNR; {image: change}."""
    names = sorted(image for _, image in next(iter(read_runs([validations.with_reference]).values())).entries)
    changes = dict(zip(names, (0.5, 0.4, 0.3, 0.2, 0.1, -0.05), strict=True))
    change_protocol(copied.with_reference, data=str(validations.data))
    shift(copied.with_reference, "psnr", changes)
    return read_runs([validations.with_reference, copied.with_reference]), changes


def test_the_difference_is_the_mean_over_common_images_tested_in_pairs():
    first = {("c", name): 20.0 for name in "abcdef"}
    changes = [0.5, 0.4, 0.3, 0.2, 0.1, -0.05]
    mine = {("c", name): 20 + change for name, change in zip("abcdef", changes, strict=True)} | {("c", "x"): 99.0}
    test = against(mine, first)
    assert test.images == 6
    assert test.difference == pytest.approx(np.mean(changes))
    assert test.p_value == pytest.approx(wilcoxon(changes).pvalue)
    assert test.low < test.difference < test.high
    assert (test.larger, test.smaller) == (5, 1)
    assert against({("c", "x"): 1.0}, first) is None


def test_the_text_shows_it(shifted):
    runs, changes = shifted
    lines = compare(runs).splitlines()
    assert lines[:4] == ["A  tiny", "B  tiny (2)", "", "6 images in common (of A 6, B 6); differences are to A."]
    block = lines[lines.index("psnr (dB), higher is better") :]
    row = next(line for line in block if line.startswith("B ")).split()
    assert row[2] == f"{np.mean([*changes.values()]):+.3f}"
    assert row[-3:] == ["5", "of", "6"]
    assert f"{wilcoxon([*changes.values()]).pvalue:.3f}" in row
    assert block[3].startswith("bicubic")
    assert block[4].split()[0] == "A"
    assert len(block[4].split()) == 2
    assert "psnr: channels RGB, border 0, data_range 255, cap_db 80" in lines
    assert max(map(len, lines)) <= 100


def test_per_class(shifted):
    runs, changes = shifted
    lines = compare(runs, per_class=True).splitlines()
    for name in ("beach", "harbor"):
        row = next(line for line in lines if line.startswith(name)).split()
        inside = [change for image, change in changes.items() if image.startswith(name)]
        assert row[1] == "3"
        assert row[-1] == f"{np.mean(inside):+.2f}"


def test_runs_of_the_same_pictures_have_no_warnings(shifted):
    assert warnings(shifted[0]) == []


def test_the_limit_and_the_seed_may_differ(copied, validations):
    change_protocol(copied.without, data=str(validations.data), seed=11, limit=6)
    assert warnings(read_runs([validations.without, copied.without])) == []


def test_other_data_or_protocols_are_told(validations, copied):
    change_protocol(
        copied.without,
        split="test",
        metrics={"psnr": {"channels": "RGB", "border": 4}, "ssim": {}, "consistency": {}},
    )
    path = copied.without / "per_image.csv"
    rows = path.read_text().splitlines()
    first = rows[1].split(",")
    assert first[3] == "bicubic"
    first[4] = repr(float(first[4]) + 0.01)
    path.write_text("\n".join([rows[0].replace("consistency", "other"), ",".join(first), *rows[2:]]) + "\n")
    found = "\n".join(warnings(read_runs([validations.without, copied.without])))
    assert "split differs (test; val)" in found
    assert "psnr is measured with another border" in found
    assert "not measured in both, so left out: consistency, other" in found
    assert f"bicubic differs on 1 images of one name, e.g. {first[0]}" in found


@pytest.mark.parametrize(("p", "text"), [(0.0309, "0.031"), (0.0001, "< 0.001"), (1.0, "1.000")])
def test_p_values(p, text):
    assert p_text(p) == text
