"""Reading what validations left."""

import csv
import json
import os

import pytest

from ttrd3.errors import DataError
from ttrd3.reports.runs import Measure, common_images, find_validation, read_run, read_runs


def test_a_run_folder_means_its_newest_validation(copied):
    os.utime(copied.with_reference / "results.json", ns=(10**18, 10**18))
    os.utime(copied.without / "results.json", ns=(2 * 10**18, 2 * 10**18))
    for path in copied.run.glob("validation/step-00000001/results.json"):
        os.utime(path, ns=(1, 1))
    assert find_validation(copied.run) == copied.without
    os.utime(copied.with_reference / "results.json", ns=(3 * 10**18, 3 * 10**18))
    assert find_validation(copied.run) == copied.with_reference
    assert find_validation(copied.run / "validation") == copied.with_reference
    assert find_validation(copied.without) == copied.without


def test_reads_the_numbers_that_were_written(validations):
    run = read_run(validations.with_reference)
    assert run.name == "tiny"
    assert run.method == "ttrd3"
    assert [*run.measures] == ["psnr", "ssim", "consistency"]
    assert run.measures["psnr"].head == "psnr (dB)"
    assert run.measures["ssim"].higher_is_better is True
    with (validations.with_reference / "per_image.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(run.entries) * 2 == len(rows) == 12
    for row in rows:
        entry = run.entries[row["class"], row["image"]]
        assert entry.values[row["method"]]["ssim"] == float(row["ssim"])
        assert entry.reference == row["reference"] != ""
    document = json.loads((validations.with_reference / "results.json").read_text())
    assert run.means["ttrd3"] == document["ttrd3"]
    assert run.protocol["seed"] == document["protocol"]["seed"]
    assert "metrics" not in run.protocol


def test_runs_are_told_apart_by_what_differs(validations, copied):
    names = [*read_runs([validations.with_reference, validations.without])]
    assert names == ["tiny, reference same_class", "tiny, reference none"]
    assert [*read_runs([validations.with_reference])] == ["tiny"]
    assert [*read_runs([validations.without] * 3)] == ["tiny", "tiny (2)", "tiny (3)"]


def test_metrics_of_the_whole_set_and_metrics_that_are_not_there(copied):
    path = copied.without / "results.json"
    document = json.loads(path.read_text())
    document["protocol"]["metrics"]["psnr_y"] = {"channels": "luma"}
    document["statistics"] = {
        "sets": {"ttrd3": {"fid": {"value": 12.5, "spread": None, "warning": "few images", "images": 6}}},
        "not_available": {"lpips": "no weights. Fetch them."},
    }
    path.write_text(json.dumps(document))
    run = read_run(copied.without)
    assert run.sets["ttrd3"]["fid"].value == 12.5
    assert run.sets["ttrd3"]["fid"].warning == "few images"
    assert [*run.set_measures] == ["fid"]
    assert run.lacking == {"lpips": "no weights. Fetch them."}


def test_an_empty_cell_is_a_metric_that_could_not_be_had(copied):
    path = copied.without / "per_image.csv"
    lines = path.read_text().splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:-1], ""])
    path.write_text("\n".join(lines) + "\n")
    run = read_run(copied.without)
    lacking = [key for key, entry in run.entries.items() if "consistency" not in entry.values["bicubic"]]
    assert len(lacking) == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.json", '{"psnr": 1}'),
        ("results.json", '{"protocol": {}, "statistics": {"sets": {"ttrd3": {"fid": 3}}}}'),
        ("per_image.csv", ""),
        ("per_image.csv", "image,class,reference,method,psnr\n"),
        ("per_image.csv", "image,class,reference,method,psnr\na,b,,ttrd3,much\n"),
        ("per_image.csv", "image,class,reference,method,psnr\na,b,,ttrd3,nan\n"),
        ("per_image.csv", "image,psnr\na,3\n"),
    ],
)
def test_files_that_no_validation_wrote_are_refused(copied, file, content):
    (copied.without / file).write_text(content)
    with pytest.raises(DataError, match=rf"{file}: not what a validation writes .*Validate again"):
        read_run(copied.without)


def test_a_folder_without_a_validation_says_so(tmp_path):
    with pytest.raises(DataError, match=r"found neither results.json nor validation/\*/results.json in it; expected"):
        read_run(tmp_path)
    with pytest.raises(DataError, match=r"gone: no such folder"):
        read_run(tmp_path / "gone")


def test_bicubic_alone_is_nothing_to_look_at(copied):
    path = copied.without / "per_image.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",ttrd3," not in line) + "\n")
    with pytest.raises(DataError, match="no method besides bicubic"):
        read_run(copied.without)


def test_no_common_image(validations, copied):
    path = copied.without / "per_image.csv"
    path.write_text(path.read_text().replace("beach", "coast").replace("harbor", "port"))
    with pytest.raises(DataError, match="no image in common"):
        common_images([read_run(validations.without), read_run(copied.without)])


def test_more_runs_than_letters(validations):
    with pytest.raises(DataError, match="found 27 runs, expected at most 26"):
        read_runs([validations.without] * 27)


def test_values_as_text():
    measure = Measure("psnr", "dB", True, 2, {})
    assert measure.text(24.666) == "24.67"
    assert measure.text(-0.001, signed=True) == "+0.00"
    assert measure.fine(-0.0012) == "-0.001"
