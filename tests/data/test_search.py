import numpy as np
import pytest

from ttrd3.data.search import Searcher


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 4, (40, 12))
    rows = centres[rng.integers(40, size=3000)] + rng.normal(0, 1, (3000, 12))
    return (rows * 10.0 ** rng.integers(-2, 3, 12)).astype(np.float32)  # numbers of very unequal spread


def searcher(rows, **options):
    def chunks():
        for start in range(0, len(rows), 700):
            yield rows[start : start + 700]

    return Searcher(chunks, len(rows), rows.shape[1], **({"standardized": False} | options))


def plain(rows, queries, k, standardized):
    scale = rows.astype(float).std(0) if standardized else 1
    distance = (((queries[:, None] - rows[None]) / scale) ** 2).sum(2)
    return distance.argsort(axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("standardized", [False, True])
def test_the_nearest_are_those_of_all_distances(cloud, standardized):
    found = searcher(cloud, standardized=standardized).nearest(cloud[:200], 5)
    expected = plain(cloud, cloud[:200], 5, standardized)
    assert (found == expected).mean() > 0.995  # float32 may swap two that are equally far but for rounding
    assert (found[:, 0] == np.arange(200)).all()


def test_equal_descriptors_come_in_order_of_rows():
    rows = np.ones((20, 4), dtype=np.float32)
    assert searcher(rows).nearest(rows[:2], 20).tolist() == [list(range(20))] * 2


def test_a_number_that_never_varies_does_not_count():
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows[:, 1] = 7
    moved = rows + np.array([0, 100, 0], dtype=np.float32)
    assert (searcher(rows, standardized=True).nearest(moved, 1)[:, 0] == np.arange(50)).all()


def test_clusters_find_nearly_all_and_everywhere_finds_all(cloud):
    exact = searcher(cloud).nearest(cloud[:300], 5)
    clustered = searcher(cloud, exact_up_to=1000)
    found = clustered.nearest(cloud[:300], 5)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]) > 0.9
    assert np.array_equal(found, searcher(cloud, exact_up_to=1000).nearest(cloud[:300], 5))
    assert (clustered.nearest(cloud[:300], 5, everywhere=True) == exact).mean() > 0.995
    assert np.array_equal(clustered.nearest(cloud[:300], 5), found)  # the setting is put back


def test_no_more_than_there_are():
    rows = np.eye(3, dtype=np.float32)
    assert searcher(rows).nearest(rows, 9).shape == (3, 3)
