"""`ttrd3 compare`."""

import json
import shutil

import numpy as np
import pytest
from data.builders import save
from reports.conftest import change_protocol

from ttrd3.__main__ import main


@pytest.fixture
def evaluate(validations, tmp_path):
    """`evaluate(name, word, ...)` -> the folder of that name, where `ttrd3 evaluate` left PSNR."""

    def run(name, *more):
        words = ["--sr", validations.without / "images", "--hr", validations.data / "val" / "hr", "--device", "cpu"]
        words += ["--metrics", "psnr", "--out", tmp_path / name, *more]
        assert main(["evaluate", *map(str, words)]) == 0
        return tmp_path / name

    return run


def test_prints_the_comparison_of_folders(validations, capsys):
    assert main(["compare", str(validations.with_reference), str(validations.without), "--per-class"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A  tiny, reference same_class\nB  tiny, reference none\n")
    assert "6 images in common" in out
    assert "\nharbor" in out


def test_other_protocols_are_warned_of_and_give_1(validations, copied, capsys):
    assert main(["compare", str(validations.without), str(copied.without)]) == 1
    shown = capsys.readouterr()
    assert "warning: " in shown.err
    assert "data differs" in shown.err
    assert "warning" not in shown.out


def test_one_run_is_not_a_comparison(validations, capsys):
    assert main(["compare", str(validations.run)]) == 2
    assert "found one run, expected at least two" in capsys.readouterr().err


def test_runs_without_a_common_image(validations, copied, capsys):
    path = copied.without / "per_image.csv"
    path.write_text(path.read_text().replace("beach", "coast").replace("harbor", "port"))
    change_protocol(copied.without, data="elsewhere")
    assert main(["compare", str(validations.without), str(copied.without)]) == 2
    assert "no image in common" in capsys.readouterr().err


def test_what_was_evaluated_counts_and_not_what_it_was_evaluated_against(evaluate, validations, tmp_path, capsys):
    shutil.copytree(validations.data / "val" / "hr", tmp_path / "perfect")
    first, second = evaluate("first", "--against", tmp_path / "perfect"), evaluate("second")
    found = json.loads((first / "results.json").read_text())
    assert found["against"]["psnr"] == 80
    assert found["sr"]["psnr"] < 60
    capsys.readouterr()
    assert main(["compare", str(first), str(second)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A  first", "B  second"]
    block = lines[lines.index("psnr (dB), higher is better") :]
    means = {line.split()[0]: line.split()[1] for line in block if line[:2] in ("A ", "B ")}
    assert means == dict.fromkeys("AB", f"{found['sr']['psnr']:.2f}")


def test_another_truth_or_mask_is_warned_of(evaluate, validations, tmp_path, capsys):
    first = evaluate("first")
    shutil.copytree(validations.data / "val" / "hr", tmp_path / "other")
    image = next((tmp_path / "other").rglob("*.png")).relative_to(tmp_path / "other")
    mask = np.full((64, 64), 255, np.uint8)
    mask[:8] = 0
    save(tmp_path / "mask" / image, mask)
    for key, folder in (("hr", tmp_path / "other"), ("mask", tmp_path / "mask")):
        second = evaluate(f"by-{key}", f"--{key}", folder)
        capsys.readouterr()
        assert main(["compare", str(first), str(second)]) == 1
        assert f"by-{key} against first: {key} differs ({folder}; " in capsys.readouterr().err


def test_more_runs_than_letters(validations, capsys):
    assert main(["compare", *[str(validations.without)] * 27]) == 2
    assert "found 27 runs, expected at most 26" in capsys.readouterr().err
