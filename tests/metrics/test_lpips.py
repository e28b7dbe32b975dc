"""LPIPS against the package and against its formula."""

import lpips
import pytest
import torch
import torch.nn.functional as F
from metrics.weights import pair, save_features, unit_tensor
from torchvision import models

from ttrd3.errors import ConfigError, DataError, UserError
from ttrd3.metrics import METRICS
from ttrd3.metrics.building import build_metric
from ttrd3.pretrained import SOURCES

BUILDERS = {"alex": models.alexnet, "squeeze": models.squeezenet1_1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunks")
    return {net: save_features(folder / f"{net}.pth", build) for net, build in BUILDERS.items()}


@pytest.mark.parametrize("net", BUILDERS)
def test_equals_the_package_with_the_same_network(files, net):
    sr, hr = pair()
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    stored = torch.load(files[net], weights_only=True)
    theirs.net.load_state_dict({key: stored["features." + key.partition(".")[2]] for key in theirs.net.state_dict()})
    with torch.inference_mode():
        expected = theirs(2 * unit_tensor(sr) - 1, 2 * unit_tensor(hr) - 1).item()
    metric = METRICS.build({"type": "lpips", "net": net, "file": str(files[net])}, "metrics")
    assert metric(sr, hr) == pytest.approx(expected, rel=1e-6)
    assert metric(sr, hr) > 0
    assert metric(hr, hr) == 0
    assert metric.name == ("lpips" if net == "alex" else "lpips_squeeze")


def test_equals_the_formula_on_torchvisions_network(files):
    """sum over taps of mean_xy sum_c w_c (x_c / |x| - y_c / |y|)^2 with the linear weights of the wheel."""
    sr, hr = pair()
    metric = METRICS.build({"type": "lpips", "net": "squeeze", "file": str(files["squeeze"])}, "metrics")
    net = models.squeezenet1_1(weights=None).features.eval()
    net.load_state_dict({k.removeprefix("features."): v for k, v in torch.load(files["squeeze"]).items()})
    wheel = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).state_dict()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, y = ((unit_tensor(image) - mean.view(3, 1, 1)) / std.view(3, 1, 1) for image in (sr, hr))
    total, taps = 0.0, iter(range(7))
    with torch.inference_mode():
        for index, layer in enumerate(net):
            x, y = layer(x), layer(y)
            if index in (1, 4, 7, 9, 10, 11, 12):
                squares = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square()
                total += (squares * wheel[f"lin{next(taps)}.model.1.weight"]).sum(1).mean().item()
    assert metric(sr, hr) == pytest.approx(total, rel=1e-4)


def test_protocol_names_package_network_and_weights(files):
    metric = METRICS.build({"type": "lpips", "net": "squeeze", "file": str(files["squeeze"])}, "metrics")
    protocol = metric.protocol()
    assert protocol["implementation"] == "lpips 0.1.4"
    assert protocol["weights"].startswith("squeeze.pth, SHA-256 ")  # not the published ones, and it says so
    assert metric.unavailable is None


def test_small_images_and_wrong_files_are_refused(files, tmp_path):
    metric = METRICS.build({"type": "lpips", "net": "alex", "file": str(files["alex"])}, "metrics")
    metric(*pair((32, 32)))
    with pytest.raises(DataError, match="31 x 40 is too small to measure: at least 32 x 32"):
        metric(*pair((40, 31)))
    with pytest.raises(UserError, match=r"squeeze\.pth: does not hold alexnet with the published names"):
        METRICS.build({"type": "lpips", "file": str(files["squeeze"])}, "metrics")
    with pytest.raises(UserError, match=r"no\.pth: no such file.*alexnet for the metric; get it from https://"):
        METRICS.build({"type": "lpips", "file": str(tmp_path / "no.pth")}, "metrics")
    with pytest.raises(ConfigError, match="net"):
        METRICS.build({"type": "lpips", "net": "resnet"}, "metrics")


@pytest.mark.parametrize("name", ["lpips", "dists", "fid", "kid"])
def test_without_weights_and_network_it_is_not_available_and_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: as without a network
    asked = build_metric({"type": name}, "metrics")
    assert "could not be downloaded" in asked.unavailable
    assert f"Bring https://{asked.unavailable.split('https://')[1].split()[0]} to {tmp_path}" in asked.unavailable
    assert asked.name == name
    assert asked.protocol()["weights"].endswith(".pth")
    unasked = build_metric({"type": name}, "metrics", download=False)
    assert "Ask for the metric by name" in unasked.unavailable


def test_weights_in_torchs_cache_are_found_and_damaged_ones_are_told(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = SOURCES["squeezenet"].cached
    cached.parent.mkdir(parents=True)
    cached.write_bytes(files["squeeze"].read_bytes())
    sr, hr = pair()
    found = build_metric({"type": "lpips", "net": "squeeze"}, "metrics", download=False)
    given = build_metric({"type": "lpips", "net": "squeeze", "file": str(files["squeeze"])}, "metrics")
    assert found(sr, hr) == given(sr, hr)
    assert found.protocol()["weights"] == cached.name
    cached.write_bytes(b"half of a download")
    damaged = build_metric({"type": "lpips", "net": "squeeze"}, "metrics", download=False)
    assert f"{cached} are damaged" in damaged.unavailable
    assert "Delete that file" in damaged.unavailable
