"""FID and KID against torch-fidelity called on folders, and against closed forms."""

import itertools

import numpy as np
import pytest
import torch
import torch_fidelity
from metrics.weights import pair, save_features, save_inception
from PIL import Image
from torchvision import models

from ttrd3.errors import UserError
from ttrd3.metrics import METRICS, Measuring


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    return save_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


def build(name, inception, **options):
    return METRICS.build({"type": name, "features": 64, "file": str(inception), **options}, "metrics")


def gathered(measure, images, metric):
    """Features of (SR, HR) pairs as results gather them: (n, D) twice."""
    both = np.stack([measure(sr, hr).features[metric.extractor.key] for sr, hr in images], axis=1)
    return both[0], both[1]


def test_equal_torch_fidelity_on_folders(inception, tmp_path):
    images = [pair(seed=seed) for seed in range(6)]
    for number, both in enumerate(images):
        for folder, image in zip(("sr", "hr"), both, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / f"{number}.png")
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "sr"), input2=str(tmp_path / "hr"), cuda=False, fid=True, kid=True, cache=False,
        feature_layer_fid="64", feature_layer_kid="64", feature_extractor_weights_path=str(inception),
        kid_subset_size=4, save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    fid, kid = build("fid", inception), build("kid", inception, subset_size=4)
    measure = Measuring([fid, kid])
    features = gathered(measure, images, fid)
    assert features[0].shape == (6, 64)
    found = fid.compute(*features)
    assert found.value == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert "6 images, fewer than the 64 features" in found.warning
    found = kid.compute(*features)
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert found.spread == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-4)
    assert found.warning is None  # more images than a subset has


def test_features_do_not_depend_on_the_order_and_are_taken_once(inception):
    fid, kid = build("fid", inception), build("kid", inception)
    measure = Measuring([fid, kid])
    (sr, hr), (other, _) = pair(seed=0), pair(seed=1)
    alone = measure(sr, hr)
    assert list(alone.features) == [fid.extractor.key] == [kid.extractor.key]  # one network for both
    calls = []
    take = fid.extractor.__class__.__call__

    class Counting:
        def __call__(self, image):
            calls.append(image)
            return take(fid.extractor, image)

    measure._extractors = {fid.extractor.key: Counting()}
    hr = hr.copy()  # not the array of before, whose features are still there
    first, second = measure(sr, hr), measure(other, hr)
    assert len(calls) == 3  # two SR images, and their common HR once
    np.testing.assert_array_equal(first.features[fid.extractor.key], alone.features[fid.extractor.key])
    np.testing.assert_array_equal(second.features[fid.extractor.key][1], alone.features[fid.extractor.key][1])


def test_fid_closed_forms(inception):
    fid = build("fid", inception)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)).astype(np.float32)
    assert fid.compute(x, x).value == pytest.approx(0, abs=1e-4)
    assert fid.compute(x + 2, x).value == pytest.approx(5 * 4, rel=1e-4)  # |shift|^2
    # Stretched by 3: tr(C + 9 C - 2 * 3 C) = 4 tr(C), and the means are 2 times the mean apart.
    expected = 4 * np.trace(np.cov(x, rowvar=False)) + 4 * np.square(x.mean(0)).sum()
    assert fid.compute(3 * x, x).value == pytest.approx(expected, rel=1e-4)


def test_fid_is_marked_below_as_many_images_as_features(inception):
    fid = build("fid", inception)
    features = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    assert fid.compute(features, features + 1).warning is None
    assert "63 images, fewer than the 64 features" in fid.compute(features[:63], features[:63] + 1).warning
    single = fid.compute(features[:1], features[:1])
    assert single.value is None
    assert "at least 2" in single.warning


def plain_kid(x, y):
    """Unbiased MMD^2 with kernel (x.y / D + 1)^3, pair by pair."""

    def kernel(a, b):
        return (float(a.astype(np.float64) @ b.astype(np.float64)) / len(a) + 1) ** 3

    within = [
        np.mean([kernel(a, b) for a, b in itertools.permutations(points, 2)]) for points in (x, y)
    ]  # every ordered pair but a point with itself
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kid_of_one_subset_of_all_images_equals_the_plain_sum(inception):
    kid = build("kid", inception, subset_size=9)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9, 5)).astype(np.float32)
    found = kid.compute(x, y + 1)
    assert found.value == pytest.approx(plain_kid(x, y + 1), rel=1e-4)
    assert found.spread == pytest.approx(0, abs=1e-5)


def test_kid_is_marked_below_its_subset_size_and_has_a_spread(inception):
    kid = build("kid", inception, subset_size=10)
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    found = kid.compute(x, x + 1)
    assert found.spread > 0
    assert "9 images, fewer than a subset of 10" in found.warning
    assert kid.compute(x[:3], x[:3]).value is None


def test_names_and_protocols_tell_layers_apart(inception):
    assert build("fid", inception).name == "fid_64"
    assert METRICS.build({"type": "fid", "file": str(inception)}, "metrics").name == "fid"
    protocol = build("kid", inception, subset_size=7).protocol()
    assert protocol["implementation"] == "torch-fidelity 0.4.0"
    assert (protocol["features"], protocol["subset_size"]) == (64, 7)


def test_a_file_of_another_network_is_refused(tmp_path):
    other = save_features(tmp_path / "squeeze.pth", models.squeezenet1_1)
    with pytest.raises(UserError, match=r"squeeze\.pth: does not hold FID's Inception network"):
        build("fid", other)


def test_what_is_no_plain_tensor_file_is_never_unpickled(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"a": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(UserError, match="cannot be read as PyTorch weights of inception"):
        build("fid", tmp_path / "harmful.pth")
