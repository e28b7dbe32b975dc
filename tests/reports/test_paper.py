"""Table II, and when a run may be compared with it."""

import json

import pytest
from reports.conftest import change_protocol

from ttrd3.reports import paper
from ttrd3.reports.runs import read_run


def test_the_table_says_what_the_paper_says_of_itself():
    """Its claims: best of all in LPIPS and FID on every set, 0.8 to 1.4 dB behind the best regression in PSNR."""
    for methods in paper.TABLE.values():
        assert len(methods) == 15
        ours = methods[paper.OURS]
        assert ours[2] == min(values[2] for values in methods.values())
        assert ours[3] == min(values[3] for values in methods.values())
        assert 0.7 < max(values[0] for values in methods.values()) - ours[0] < 1.4
        assert all(
            20 < v[0] < 31 and 0.5 < v[1] < 0.83 and 0.2 < v[2] < 0.4 and 30 < v[3] < 140 for v in methods.values()
        )


@pytest.mark.parametrize(
    ("root", "dataset"),
    [
        ("datasets/ucmerced", "UC Merced"),
        ("UCMerced_LandUse/prepared", "UC Merced"),
        ("datasets/UC Merced", "UC Merced"),
        ("datasets/AID", "AID"),
        ("NWPU-RESISC45/tiles", "NWPU-RESISC45"),
        ("RSD46-WHU", "RSD46-WHU"),
        ("samples/neon", None),
        ("maid/of/honour", None),
    ],
)
def test_the_data_set_is_known_by_its_folder(copied, root, dataset):
    change_protocol(copied.without, data=root)
    assert paper.dataset_of(read_run(copied.without)) == dataset


def test_other_data_is_said_to_be_other_data(validations):
    reasons = paper.differences(read_run(validations.without), None)
    assert "none of the paper's four sets" in reasons[0]
    assert "LPIPS was not measured." in reasons
    assert "FID was not measured." in reasons


def test_the_same_images_and_metrics_leave_only_what_is_unknown(copied):
    path = copied.without / "results.json"
    document = json.loads(path.read_text())
    document["bicubic"] |= {"psnr": 25.2852, "ssim": 0.6816, "lpips": 0.39}
    document["statistics"] = {"sets": {"bicubic": {"fid": {"value": 119.0, "warning": None}}}}
    path.write_text(json.dumps(document))
    run = read_run(copied.without)
    reasons = paper.differences(run, "UC Merced")
    assert [reason.split(":")[0] for reason in reasons] == ["LPIPS", "FID"]
    assert "is not known" in reasons[0]
    assert paper.measured(run, "bicubic") == {"PSNR": 25.2852, "SSIM": 0.6816, "LPIPS": 0.39, "FID": 119.0}


def test_bicubic_tells_other_images_from_the_same(copied):
    change_protocol(copied.without, crop=32)
    reasons = paper.differences(read_run(copied.without), "UC Merced")
    assert "not the paper's test split of UC Merced but 6 of split 'val'" in reasons[0]
    assert "25.2852 dB there" in reasons[0]
    assert "Windows of 32 pixels" in reasons[1]


def test_luma_psnr_is_not_put_beside_the_paper(copied):
    for name in ("results.json", "per_image.csv"):
        path = copied.without / name
        path.write_text(path.read_text().replace("psnr", "psnr_y"))
    run = read_run(copied.without)
    assert run.measures["psnr_y"].unit == "dB"
    assert paper.measured(run, run.method)["PSNR"] is None
    assert any("was not measured, only psnr_y" in reason for reason in paper.differences(run, "AID"))
