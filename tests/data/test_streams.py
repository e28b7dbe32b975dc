from itertools import islice

import numpy as np
import pytest
import torch
from builders import prepared
from torch.utils.data import DataLoader

from ttrd3.data.streams import PassSampler, ShareSampler, TrainingStream, ValidationView
from ttrd3.data.triplets import TripletDataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(prepared(tmp_path_factory.mktemp("streams"), {"a": 4, "b": 3}, side=48))


def dataset(root, **options):
    return TripletDataset(root, "train", augmentation="separate", crop=32, reference_dropout=0.2, **options, seed=0)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a
    )


def test_a_sample_depends_on_seed_and_counter_alone(root):
    stream = TrainingStream(dataset(root), seed=5)
    forward = [stream[counter] for counter in range(20)]
    fresh = TrainingStream(dataset(root), seed=5)
    order = np.random.default_rng(0).permutation(20)
    assert all(same(fresh[int(counter)], forward[counter]) for counter in order)
    other = TrainingStream(dataset(root), seed=6)
    assert not all(same(other[counter], forward[counter]) for counter in range(20))


def test_every_epoch_shows_every_tile_once_in_another_order(root):
    stream = TrainingStream(dataset(root), seed=0)
    epochs = [[stream[7 * epoch + position]["name"] for position in range(7)] for epoch in range(4)]
    assert all(sorted(names) == [tile.name for tile in stream.dataset.tiles] for names in epochs)
    assert len({tuple(names) for names in epochs}) == 4


def test_the_same_tile_gets_new_references_and_turns(root):
    stream = TrainingStream(dataset(root), seed=0)
    first = [stream[counter] for counter in range(70)]
    of_one = [sample for sample in first if sample["name"] == "a/a00"]
    assert len({sample["reference_name"] for sample in of_one}) >= 3
    assert len({sample["hr"].numpy().tobytes() for sample in of_one}) >= 8


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_loader_goes_on_with_the_very_next_samples(root, workers):
    def names(start, count, batch):
        loader = DataLoader(
            TrainingStream(dataset(root), seed=1), batch_sampler=PassSampler(start // batch, batch), num_workers=workers
        )
        groups = islice(loader, count)
        return [item for group in groups for item in zip(group["name"], group["reference_name"], strict=True)]

    whole = names(0, 6, 2)
    assert whole == names(0, 3, 4) == names(0, 2, 2) + names(4, 4, 2)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_processes_share_each_pass(size):
    passes = zip(*(PassSampler(7, 6, rank, size) for rank in range(size)), strict=True)
    for number, shares in enumerate(islice(passes, 5), start=7):
        assert [counter for share in shares for counter in share] == list(range(6 * number, 6 * number + 6))


@pytest.mark.parametrize(("length", "batch", "size"), [(7, 2, 1), (7, 2, 3), (1, 4, 2), (12, 1, 5)])
def test_processes_share_a_validation(length, batch, size):
    shares = [list(ShareSampler(length, batch, rank, size)) for rank in range(size)]
    assert sorted(index for share in shares for group in share for index in group) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(group == list(range(group[0], group[0] + len(group))) for share in shares for group in share)


def test_validation_references_depend_on_seed_and_name_alone(root):
    whole = ValidationView(dataset(root), seed=3)
    samples = {whole[index]["name"]: whole[index] for index in range(len(whole))}
    assert list(samples) == sorted(samples)
    assert len(samples) == 7
    fewer = ValidationView(dataset(root, limit=3), seed=3)
    assert all(same(fewer[index], samples[fewer[index]["name"]]) for index in (2, 0, 1))
    again = [ValidationView(dataset(root), seed=seed)[0]["reference_name"] for seed in range(20)]
    assert len(set(again)) > 1
