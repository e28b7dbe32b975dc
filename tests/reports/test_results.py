import csv
import json
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest

from ttrd3.errors import ConfigError, DataError, UserError
from ttrd3.metrics import METRICS, SetMetric, SetValue
from ttrd3.reports.results import Results
from ttrd3.reports.statistics import bootstrap_interval

# (image, class, bicubic PSNR and SSIM, ours, reference): unequal classes, so that a mean over classes would differ.
IMAGES = [
    ("beach02", "beach", (30.0, 0.8), (31.0, 0.85), "beach09"),
    ("beach01", "beach", (32.0, 0.9), (32.5, 0.91), None),
    ("harbor01", "harbor", (20.0, 0.5), (19.0, 0.55), "harbor07"),
]
PROTOCOL = {"scale": 4, "seed": 7}


def metrics(*names):
    return [METRICS.build({"type": name}, "metrics") for name in names or ("psnr", "ssim")]


def calls():
    for image, class_name, bicubic, ours, reference in IMAGES:
        for method, (psnr, ssim) in (("bicubic", bicubic), ("ttrd3", ours)):
            yield image, class_name, method, {"psnr": psnr, "ssim": ssim}, reference


def filled(order=None):
    results = Results(metrics())
    for call in order or calls():
        results.add(*call)
    return results


def strict(text):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_results_json_holds_means_over_images(tmp_path):
    filled().write(tmp_path / "new" / "folder", PROTOCOL)
    found = strict((tmp_path / "new" / "folder" / "results.json").read_text())
    assert found["bicubic"] == pytest.approx({"psnr": 82 / 3, "ssim": 2.2 / 3}, rel=1e-15)
    assert found["ttrd3"] == pytest.approx({"psnr": 82.5 / 3, "ssim": 2.31 / 3}, rel=1e-15)
    assert found["per_class"]["beach"]["bicubic"] == pytest.approx({"psnr": 31, "ssim": 0.85})
    assert found["per_class"]["harbor"]["ttrd3"] == {"psnr": 19, "ssim": 0.55}
    assert found["images"] == 3
    assert found["protocol"]["scale"] == 4
    assert found["protocol"]["averaging"] == "mean over images"
    assert found["protocol"]["metrics"]["ssim"]["window"] == "7x7 uniform"
    assert found.keys() == {"bicubic", "ttrd3", "per_class", "images", "protocol", "statistics"}


def test_per_image_csv_holds_one_row_per_image_and_method_at_full_precision(tmp_path):
    results = Results(metrics())
    results.add("b", "x", "ttrd3", {"psnr": 1 / 3, "ssim": 0.1}, "r,1")
    results.add("b", "x", "bicubic", {"ssim": 2 / 3, "psnr": 7.0})
    results.add("a", "y", "bicubic", {"psnr": 80.0, "ssim": 1.0})
    results.add("a", "y", "ttrd3", {"psnr": 80.0, "ssim": 1.0})
    results.write(tmp_path)
    rows = list(csv.reader((tmp_path / "per_image.csv").open(newline="")))
    assert rows == [
        ["image", "class", "reference", "method", "psnr", "ssim"],
        ["a", "y", "", "bicubic", "80.0", "1.0"],
        ["a", "y", "", "ttrd3", "80.0", "1.0"],
        ["b", "x", "", "bicubic", "7.0", "0.6666666666666666"],
        ["b", "x", "r,1", "ttrd3", "0.3333333333333333", "0.1"],
    ]


def test_files_and_table_do_not_depend_on_the_order_of_adding(tmp_path):
    rng = random.Random(0)
    values = [
        (f"i{n:03d}", f"c{n % 3}", method, {"psnr": rng.uniform(20, 40), "ssim": rng.random()})
        for n in range(60)
        for method in ("bicubic", "ttrd3")
    ]
    outputs = []
    for turn in range(3):
        rng.shuffle(values)
        results = filled(values)
        results.write(tmp_path / str(turn), PROTOCOL)
        names = ("results.json", "results.md", "per_image.csv")
        outputs.append([(tmp_path / str(turn) / name).read_bytes() for name in names] + [results.table()])
    assert outputs[0] == outputs[1] == outputs[2]


def test_table_shows_bicubic_beside_ours_with_differences_and_the_protocol():
    lines = filled().table(PROTOCOL).splitlines()
    assert lines[0].split() == ["class", "images", "method", "psnr", "(dB)", "ssim"]
    assert lines[2].split() == ["beach", "2", "bicubic", "31.00", "0.8500"]
    assert lines[3].split() == ["ttrd3", "31.75", "+0.75", "0.8800", "+0.0300"]
    assert lines[5].split() == ["ttrd3", "19.00", "-1.00", "0.5500", "+0.0500"]
    assert lines[7].split() == ["overall", "3", "bicubic", "27.33", "0.7333"]
    assert lines[9].split() == ["ttrd3", "27.50", "+0.17", "0.7700", "+0.0367"]
    low, high = bootstrap_interval([31.0, 32.5, 19.0])
    assert lines[10].split()[:4] == ["95%", f"{low:.2f}", "..", f"{high:.2f}"]
    notes = [line for line in lines[12:] if not line.startswith((" ", "ttrd3 - bicubic"))]
    assert notes == [
        "3 images; mean over images; differences are to bicubic.",
        "95% interval: percentile bootstrap of the mean at 95%, 2000 resamples, seed 0.",
        "psnr: channels RGB, border 0, data_range 255, cap_db 80; higher is better.",
        "ssim: channels RGB, border 0, window 7x7 uniform, data_range 255; higher is better.",
        "Run: scale 4, seed 7.",
    ]


def test_values_stand_under_one_another():
    lines = filled().table().splitlines()
    places = {line.index(value) for line, value in ((lines[2], "31.00"), (lines[3], "31.75"), (lines[5], "19.00"))}
    assert len(places) == 1


def test_table_stays_within_100_ascii_columns_whatever_the_names():
    options = [{"type": "psnr", "channels": c} for c in ("rgb", "y")]
    options += [{"type": "ssim", "channels": c, "window": w} for c in ("rgb", "y") for w in ("uniform7", "gaussian11")]
    many = [METRICS.build(o, "metrics") for o in options]
    results = Results(many)
    for method in ("bicubic", "ttrd3", "a method with a rather long name"):
        results.add("i", "a class with a name that is much too long", method, {m.name: 12.5 for m in many})
    table = results.table({"weights": "runs/" + "word " * 60})
    assert max(len(line) for line in table.splitlines()) <= 100
    assert table.isascii()
    assert all(table.count(m.name + " (dB)") == 1 for m in many[:2])
    assert "ssim_y_gauss" in table
    assert "a class with a name th.." in table


def test_a_difference_that_rounds_to_zero_has_no_minus():
    results = Results(metrics("psnr"))
    results.add("i", "c", "bicubic", {"psnr": 20.001})
    results.add("i", "c", "ttrd3", {"psnr": 20.0})
    assert "+0.00" in results.table()
    assert "-0.00" not in results.table()


def test_markdown_is_one_table_of_equal_columns():
    results = filled()
    results.add("i", "a|b", "bicubic", {"psnr": 20, "ssim": 0.5})
    results.add("i", "a|b", "ttrd3", {"psnr": 21, "ssim": 0.5})
    lines = results.markdown(PROTOCOL).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert "| beach | 2 | bicubic | 31.00 |  | 0.8500 |  |" in table
    assert "|  |  | ttrd3 | 31.75 | +0.75 | 0.8800 | +0.0300 |" in table
    assert table[-4].startswith("| **overall** | **4** | **bicubic** | **25.50** |  |")
    assert "- 4 images; mean over images; differences are to bicubic." in lines


def test_images_without_a_class_are_named_so():
    results = Results(metrics("psnr"))
    for method in ("bicubic", "ttrd3"):
        results.add("i", "", method, {"psnr": 20.0})
    assert "(no class)" in results.table()
    assert results.summary()["per_class"].keys() == {""}


def test_one_name_in_two_classes_is_two_images():
    results = Results(metrics("psnr"))
    for class_name in ("a", "b"):
        results.add("1", class_name, "bicubic", {"psnr": 20.0})
    assert results.summary()["images"] == 2
    with pytest.raises(DataError, match="1: two images of class 'b'"):
        results.add("1", "b", "bicubic", {"psnr": 20.0})


def test_bicubic_must_stand_beside_every_method():
    results = filled()
    results.add("extra", "beach", "ttrd3", {"psnr": 20.0, "ssim": 0.5})
    with pytest.raises(ValueError, match=r"bicubic has no values for 1 image\(s\), e.g. beach/extra"):
        results.summary()


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("ttrd3", {"psnr": 20.0}, "expected"),
        ("ttrd3", {"psnr": 20.0, "ssim": 0.5, "lpips": 0.1}, "lpips"),
        ("ttrd3", {"psnr": float("inf"), "ssim": 0.5}, "not finite"),
        ("ttrd3", {"psnr": 20.0, "ssim": float("nan")}, "not finite"),
        ("images", {"psnr": 20.0, "ssim": 0.5}, "cannot be called 'images'"),
    ],
)
def test_rows_that_would_spoil_the_files_are_refused(method, values, message):
    with pytest.raises(ValueError, match=message):
        Results(metrics()).add("i", "c", method, values)


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two metrics would both be written as 'psnr'"):
        Results(metrics("psnr", "psnr"))


def test_no_images_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(DataError, match="no image was measured"):
        Results(metrics()).write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extra", [{"seed": float("nan")}, {"metrics": "psnr"}])
def test_a_protocol_that_is_not_strict_json_or_takes_our_keys_writes_nothing(tmp_path, extra):
    with pytest.raises(ValueError, match=r"JSON compliant|may not hold"):
        filled().write(tmp_path, extra)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        filled().write(tmp_path / "file" / "results")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_statistics_hold_intervals_and_paired_tests():
    found = strict(json.dumps(filled().summary()))["statistics"]
    psnr = {"bicubic": [32.0, 30.0, 20.0], "ttrd3": [32.5, 31.0, 19.0]}  # in the order of the images' names
    for method, values in psnr.items():
        assert found["intervals"][method]["psnr"] == list(bootstrap_interval(values))
    assert found["per_class_intervals"]["beach"]["bicubic"]["psnr"] == list(bootstrap_interval([32.0, 30.0]))
    assert found["per_class_intervals"]["harbor"]["bicubic"]["psnr"] is None  # of one image
    assert found["paired"].keys() == {"ttrd3"}
    assert found["paired"]["ttrd3"]["psnr"]["difference"] == pytest.approx(0.5 / 3)
    assert (found["paired"]["ttrd3"]["psnr"]["larger"], found["paired"]["ttrd3"]["psnr"]["smaller"]) == (2, 1)
    assert (found["sets"], found["not_available"]) == ({}, {})


def test_rows_can_be_gathered_from_several_processes():
    whole, parts = filled(), [Results(metrics()) for _ in range(2)]
    for number, call in enumerate(calls()):
        parts[number // 2 % 2].add(*call)
    gathered = Results(metrics())
    for part in parts:
        gathered.extend(pickle.loads(pickle.dumps(part.rows)))
    assert gathered.table(PROTOCOL) == whole.table(PROTOCOL)
    with pytest.raises(DataError, match="two images of class"):
        gathered.extend(parts[0].rows)


def test_without_a_baseline_there_are_no_differences():
    results = Results(metrics("psnr"), baseline=None)
    for image, value in (("a", 20.0), ("b", 22.0)):
        results.add(image, "", "sr", {"psnr": value})
    assert "difference" not in results.table()
    assert "Wilcoxon" not in results.table()
    assert results.table().splitlines()[2].split() == ["(no", "class)", "2", "sr", "21.00"]
    assert results.summary()["statistics"]["paired"] == {}


def test_better_counts_follow_the_metric_and_are_written_beneath_the_table():
    found = filled().table()
    assert "ttrd3 - bicubic, psnr: +0.17 " in found
    assert "better on 2 of 3 images, Wilcoxon p = " in found
    omission = METRICS.build({"type": "omission"}, "metrics")
    results = Results([omission])
    for image in ("a", "b", "c"):
        results.add(image, "", "bicubic", {"omission": 0.6})
        results.add(image, "", "ttrd3", {"omission": 0.4})
    assert "omission: -0.2000 (-0.2000 .. -0.2000), better on 3 of 3 images" in results.markdown()


class Mean(SetMetric):
    """Difference of the features' means: what a set metric must offer, and no more."""

    name, unit, higher_is_better, decimals = "mean", "", False, 2

    def __init__(self, unavailable=None):
        self.unavailable = unavailable
        self.extractor = SimpleNamespace(key="mean")

    def compute(self, sr, hr):
        warning = f"{len(sr)} images, fewer than 10" if len(sr) < 10 else None
        return SetValue(float((sr - hr).mean()), 0.125, warning)

    def protocol(self):
        return {"implementation": "test"}


def with_set(images, metric):
    results = Results([*metrics("psnr"), metric])
    for number in range(images):
        for method, value in (("bicubic", 3.0), ("ttrd3", 1.0)):
            features = {"mean": np.array([[value + number], [number]], np.float32)}
            results.add(f"i{number}", "c", method, {"psnr": 20.0}, features=features)
    return results


def test_set_metrics_stand_apart_with_their_spread_and_a_mark_where_images_are_few(tmp_path):
    few = with_set(3, Mean())
    lines = few.table().splitlines()
    assert any(line.split() == ["mean", "bicubic", "3.00", "+-", "0.12", "(!)"] for line in lines)
    assert any(line.split() == ["ttrd3", "1.00", "+-", "0.12", "(!)"] for line in lines)
    assert "(!) mean: 3 images, fewer than 10" in lines
    assert "mean: implementation test; lower is better." in lines
    assert "| ttrd3 | 1.00 +- 0.12 (!) |" in few.markdown()
    few.write(tmp_path)
    found = strict((tmp_path / "results.json").read_text())
    expected = {"value": 1.0, "spread": 0.125, "images": 3, "warning": "3 images, fewer than 10"}
    assert found["statistics"]["sets"]["ttrd3"] == {"mean": expected}
    assert "mean" not in found["ttrd3"]  # nobody reads the number without its warning
    assert few.set_values()["ttrd3"]["mean"].value == 1.0
    assert "(!)" not in with_set(10, Mean()).table()


def test_features_that_are_missing_are_refused():
    with pytest.raises(ValueError, match=r"no features for \['mean'\]"):
        Results([Mean()]).add("i", "c", "bicubic", {})


def test_what_is_not_available_is_shown_as_such_and_has_no_number(tmp_path):
    results = with_set(2, Mean(unavailable="no weights. Bring FILE to DIR."))
    results.write(tmp_path)
    assert "mean: not available: no weights. Bring FILE to DIR." in results.table()
    assert "- mean: not available: no weights. Bring FILE to DIR." in (tmp_path / "results.md").read_text()
    found = strict((tmp_path / "results.json").read_text())
    assert found["statistics"]["not_available"] == {"mean": "no weights. Bring FILE to DIR."}
    assert found["statistics"]["sets"] == {}
    assert (tmp_path / "per_image.csv").read_text().splitlines()[0] == "image,class,reference,method,psnr"


def test_nothing_but_unavailable_metrics_still_makes_a_table():
    results = Results([Mean(unavailable="no weights. Bring FILE to DIR.")])
    results.add("i", "c", "bicubic", {})
    assert results.table().splitlines() == [
        "1 images; mean over images; differences are to bicubic.",
        "mean: not available: no weights. Bring FILE to DIR.",
    ]
