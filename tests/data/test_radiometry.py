import numpy as np
import pytest

from ttrd3.data.radiometry import (
    Radiometry,
    Scaling,
    clipped_shares,
    parse_bands,
    parse_scaling,
    ranges_for,
)
from ttrd3.errors import DataError, UserError

BANDS = (4, 3, 2)


def values(low, high, n=5000):
    return np.random.default_rng(0).uniform(low, high, (n, 3))


def test_linear_rounded_and_clipped():
    radiometry = Radiometry(BANDS, "int16", ((0, 10_000), (0, 10_000), (-100, 155)))
    found = radiometry.to_8bit(np.array([[[0, 5000, -100]], [[10_000, 12_000, 155]], [[-7, 20, 0]]], np.int16))
    np.testing.assert_array_equal(found, [[[0, 128, 0]], [[255, 255, 255]], [[0, 1, 100]]])  # 127.5 rounds to even
    assert found.dtype == np.uint8
    nan = radiometry.to_8bit(np.full((1, 1, 3), np.nan, np.float32))
    np.testing.assert_array_equal(nan, [[[0, 0, 0]]])


def test_8_bit_values_stay():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert Radiometry(BANDS, "uint8").to_8bit(image) is image


def test_what_each_declaration_means():
    data = values(200, 4000)
    assert ranges_for(Scaling("none"), data, BANDS, "it") is None
    assert ranges_for(Scaling("divide", (10_000,)), data, BANDS, "it") == ((0, 10_000),) * 3
    data[:, 1] += 1000
    found = ranges_for(Scaling("percentiles", (2, 98)), data, BANDS, "it")
    for band in range(3):
        ordered = np.sort(data[:, band])
        assert found[band] == pytest.approx((ordered[100], ordered[4899]), abs=2)  # 2 % of 5000 are 100
    shares = clipped_shares(found, data)
    assert shares["below"] == pytest.approx(0.02, abs=1e-3)
    assert shares["above"] == pytest.approx(0.02, abs=1e-3)


@pytest.mark.parametrize(
    ("scaling", "data", "text"),
    [
        (Scaling("divide", (10_000,)), values(0, 1), r"divide:10000 does not fit it: 99 % .* images would be black"),
        (Scaling("divide", (10_000,)), values(0, 190), "more than 2% of 10000"),
        (Scaling("divide", (255,)), values(0, 4000), r"at most 150% of 255: the images would be saturated"),
        (Scaling("divide", (10_000,)), values(-3000, 2500), r"more than half of band \d is negative"),
        (Scaling("percentiles", (0, 40)), np.maximum(values(0, 2), 1), "percentiles 0 and 40 are both 1"),
        (Scaling("none"), values(0, 255) * [1, 0, 1], "band 3 is 0 all over it"),
        (Scaling("percentiles", (2, 98)), np.empty((0, 3)), "no pixel with data"),
    ],
)
def test_implausible_declarations(scaling, data, text):
    with pytest.raises(DataError, match=text):
        ranges_for(scaling, data, BANDS, "it")


@pytest.mark.parametrize(("low", "high"), [(0, 220), (0, 14_000)])
def test_dark_and_bright_data_that_are_still_plausible(low, high):
    assert ranges_for(Scaling("divide", (10_000,)), values(low, high), BANDS, "it")


def test_words_of_the_command_line():
    assert parse_scaling("none") == Scaling("none")
    assert parse_scaling("divide:10000") == Scaling("divide", (10_000,))
    assert parse_scaling("percentiles:0.5,99.5") == Scaling("percentiles", (0.5, 99.5))
    assert parse_bands("4,3,2") == [4, 3, 2]
    for text in ("", "none:1", "divide", "divide:0", "divide:-1", "divide:x", "divide:inf", "divide:1,2",
                 "percentiles:98,2", "percentiles:2", "percentiles:-1,98", "percentiles:2,101", "auto"):  # fmt: skip
        with pytest.raises(UserError, match="--scale: found"):
            parse_scaling(text)
    for text in ("", "1,2", "0,1,2", "1,2,3,4", "r,g,b", "1, 2, 3", "1,2,-3"):
        with pytest.raises(UserError, match="--bands: found"):
            parse_bands(text)
