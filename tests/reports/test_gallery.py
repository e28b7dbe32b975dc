"""Which images a page shows."""

from dataclasses import replace

from ttrd3.reports.gallery import choose
from ttrd3.reports.runs import read_run


def test_the_images_shown_go_from_the_smallest_gain_to_the_largest(validations):
    run = read_run(validations.with_reference)
    gains = {
        key: run.entries[key].values["ttrd3"]["psnr"] - run.entries[key].values["bicubic"]["psnr"]
        for key in run.entries
    }
    ranked = sorted(gains, key=gains.get)
    assert choose(run, sorted(gains), 2) == sorted([ranked[0], ranked[-1]])


def test_without_a_metric_of_images_they_are_spread_over_the_names(validations):
    run = replace(read_run(validations.with_reference), measures={})
    keys = sorted(run.entries)
    assert choose(run, keys, 2) == [keys[0], keys[-1]]
