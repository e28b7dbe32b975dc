"""DISTS against the authors' own code."""

from pathlib import Path
from types import SimpleNamespace

import DISTS_pytorch
import pytest
import torch
import torchvision
from metrics.weights import pair, save_features, unit_tensor, vgg16_features

from ttrd3.errors import DataError
from ttrd3.metrics import METRICS


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    return save_features(tmp_path_factory.mktemp("vgg") / "vgg16.pth", torchvision.models.vgg16)


@pytest.fixture(scope="module")
def dists(vgg16):
    return METRICS.build({"type": "dists", "file": str(vgg16)}, "metrics")


@pytest.mark.parametrize("size", [(32, 32), (47, 70)])
def test_equals_the_authors_code(dists, vgg16, size, monkeypatch):
    # Their constructor downloads VGG16 and looks for weights in the wrong folder: it gets the same network and weights.
    features = vgg16_features(vgg16)
    monkeypatch.setattr(torchvision.models, "vgg16", lambda **_: SimpleNamespace(features=features))
    theirs = DISTS_pytorch.DISTS(load_weights=False).eval()
    learned = torch.load(Path(DISTS_pytorch.__file__).with_name("weights.pt"), weights_only=True)
    theirs.alpha.data, theirs.beta.data = learned["alpha"], learned["beta"]
    sr, hr = pair(size)
    expected = theirs(unit_tensor(sr), unit_tensor(hr)).item()
    assert 0 < expected < 1
    # 1 minus a float32 near 1: its last digit, 1.2e-7, is that of the processor.
    assert dists(sr, hr) == pytest.approx(expected, rel=1e-5, abs=4e-7)


def test_identical_images_have_distance_zero(dists):
    _, hr = pair()
    assert dists(hr, hr) == pytest.approx(0, abs=1e-5)


def test_small_images_are_refused(dists):
    with pytest.raises(DataError, match="at least 32 x 32"):
        dists(*pair((31, 40)))


def test_protocol(dists):
    assert dists.protocol() | {"weights": ""} == {
        "learned_weights": "DISTS-pytorch 0.1",
        "net": "vgg16",
        "weights": "",
        "resizing": "none",
    }
