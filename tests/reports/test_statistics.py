"""Intervals and paired tests against closed forms and known cases."""

import itertools
import math

import numpy as np
import pytest

from ttrd3.reports.statistics import bootstrap_interval, paired_test


def test_the_interval_of_two_values_is_known():
    """Resamples of {0, 1} have means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: 95 % reaches to both ends."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.4, resamples=20_000) == (0.5, 0.5)


def test_the_interval_of_many_values_is_the_normal_one():
    """Mean +- 1.96 standard errors, by the central limit theorem; the bootstrap's own noise is about 2 % of that."""
    values = np.random.default_rng(0).normal(27, 3, 400)
    low, high = bootstrap_interval(values, resamples=20_000)
    error = values.std() / math.sqrt(len(values))
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.exponential(1, 100), resamples=500)
        inside += low <= 1 <= high
    assert 0.89 <= inside / 300 <= 0.98


def test_the_interval_is_deterministic_and_shifts_and_scales_with_the_values():
    values = np.random.default_rng(0).random(50)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval(values * 2 + 5) == pytest.approx((low * 2 + 5, high * 2 + 5))
    assert bootstrap_interval([7.0] * 9) == (7.0, 7.0)


def test_many_images_are_drawn_in_pieces(monkeypatch):
    values = np.random.default_rng(0).random(100)
    whole = bootstrap_interval(values)
    monkeypatch.setattr("ttrd3.reports.statistics._CHUNK", 250)
    assert bootstrap_interval(values) == whole


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [[1.0, 2.0]]])
def test_what_has_no_interval_is_refused(values):
    with pytest.raises(ValueError, match="at least 2 finite values"):
        bootstrap_interval(values)


def exact_p(differences):
    """Two-sided signed-rank p-value by all 2^n signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    observed = ranks[np.asarray(differences) > 0].sum()
    sums = [
        sum(r for r, plus in zip(ranks, signs, strict=True) if plus)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    middle = sum(ranks) / 2
    return np.mean([abs(s - middle) >= abs(observed - middle) for s in sums])


def test_the_paired_test_equals_the_enumeration_of_all_signs():
    first = np.array([20.0, 21.0, 25.0, 30.0, 27.0, 24.0, 22.5])
    differences = np.array([0.5, 0.7, -0.1, 1.2, 0.9, -0.3, 0.4])
    found = paired_test(first, first + differences)
    assert found.p_value == pytest.approx(exact_p(differences.tolist()), rel=1e-9)
    assert found.difference == pytest.approx(differences.mean())
    assert (found.images, found.larger, found.smaller) == (7, 5, 2)
    assert (found.low, found.high) == pytest.approx(bootstrap_interval(differences))


def test_all_images_better_has_a_closed_form():
    """Every sign equal: p = 2 / 2^n."""
    first = np.arange(8.0)
    assert paired_test(first, first + np.linspace(0.1, 0.8, 8)).p_value == pytest.approx(2 / 2**8)


def test_equal_runs_do_not_differ_and_order_turns_the_sign():
    values = np.random.default_rng(0).random(30)
    same = paired_test(values, values)
    assert (same.p_value, same.difference, same.larger, same.smaller) == (1.0, 0.0, 0, 0)
    other = values + np.random.default_rng(1).normal(0.1, 0.1, 30)
    forth, back = paired_test(values, other), paired_test(other, values)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.p_value == pytest.approx(back.p_value)
    assert (forth.larger, forth.smaller) == (back.smaller, back.larger)
    assert forth.p_value < 0.01


def test_a_single_image_has_no_interval_and_decides_nothing():
    found = paired_test([1.0], [2.0])
    assert (found.low, found.high, found.p_value) == (None, None, 1.0)


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 2.0]), ([], []), ([math.inf, 1.0], [1.0, 2.0])])
def test_what_is_no_pair_is_refused(first, second):
    with pytest.raises(ValueError, match="same images"):
        paired_test(first, second)
