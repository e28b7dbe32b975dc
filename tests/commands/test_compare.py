"""`ttrd3 compare`."""

from reports.conftest import change_protocol

from ttrd3.__main__ import main


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
