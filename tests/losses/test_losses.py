"""Losses against plain formulas and the released totals."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from golden.rules import released_state
from helpers import relative_error
from losses.trunk_files import step
from torchvision import models

from ttrd3.errors import ConfigError, UserError
from ttrd3.losses import LOSSES, Step
from ttrd3.losses.base import turns, weight_at
from ttrd3.losses.trunks import TRUNKS, Trunk, load_trunk
from ttrd3.pretrained import SOURCES


@pytest.fixture(scope="module")
def squeezenet_file(tmp_path_factory):
    """Weights with torchvision's names, not trained."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("trunk") / "squeezenet.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("of", ["residual", "noise"])
def test_prediction_terms(of):
    s = step()
    difference = s.outputs[of] - s.targets[of]
    for kind, expected in (("l1", difference.abs().mean()), ("l2", difference.square().mean())):
        loss = LOSSES.build({"type": kind, "of": of, "weight": 3.0}, "losses.0")
        torch.testing.assert_close(loss(s), expected)
        assert (loss.name, loss.weight) == (f"{kind}_{of}", 3.0)


def test_posterior_term():
    s = step()
    loss = LOSSES.build({"type": "posterior", "norm": "l2"}, "losses.0")
    torch.testing.assert_close(loss(s), (s.posterior - s.posterior_target).square().mean())
    assert loss.weight == 500


def test_restored_term():
    s = step()
    difference = s.x0 - s.x0_target
    for norm, expected in (("l1", difference.abs().mean()), ("l2", difference.square().mean())):
        loss = LOSSES.build({"type": "restored", "norm": norm}, "losses.0")
        torch.testing.assert_close(loss(s), expected)
        assert (loss.name, loss.weight) == (f"restored_{norm}", 1)


def test_perceptual_term_is_the_feature_distance(squeezenet_file):
    s = step()
    loss = LOSSES.build({"type": "perceptual", "trunk": "squeezenet", "file": str(squeezenet_file)}, "losses.0")
    net = models.squeezenet1_1(weights=None)
    net.load_state_dict(torch.load(squeezenet_file, weights_only=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    a, b = (
        net.features(((u + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)) for u in (s.posterior, s.posterior_target)
    )
    torch.testing.assert_close(loss(s), F.mse_loss(a, b))


def test_perceptual_gradient_reaches_the_image_and_not_the_trunk(squeezenet_file):
    s = step()
    s.posterior.requires_grad_()
    loss = LOSSES.build({"type": "perceptual", "trunk": "squeezenet", "file": str(squeezenet_file)}, "losses.0")
    loss(s).backward()
    assert s.posterior.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in loss.trunk.parameters())


def test_golden_vgg_term(golden):
    """The released VGG19 term, with the golden rule's weights."""
    state = {k.split(".")[2] + "." + k.split(".")[3]: v for k, v in released_state("model:1net_a").items()
             if k.startswith("vgg19.slice")}  # fmt: skip
    features = TRUNKS["vgg19"].build(weights=None).features[: TRUNKS["vgg19"].layers]
    features.load_state_dict(state)
    assert isinstance(features[-1], torch.nn.Conv2d)  # conv5_1, before its ReLU
    assert len([m for m in features if isinstance(m, torch.nn.Conv2d)]) == 13
    assert Trunk(features)(torch.rand(1, 3, 32, 32)).shape == (1, 512, 2, 2)


@pytest.mark.parametrize("variant", ["1net_a", "1net_b", "2net"])
def test_golden_losses(golden, variant):
    """Every released term at t = 500 from the released network's own predictions."""
    from networks.released import VARIANTS, released_model
    from networks.test_golden import textures

    from ttrd3.diffusion.objectives import OBJECTIVES
    from ttrd3.diffusion.process import DiffusionProcess

    g = golden(f"unet_{variant}")
    ours = {released: name for name, released in VARIANTS.items()}[variant]
    process, objective, t = DiffusionProcess(), OBJECTIVES["pred_res_noise"], torch.tensor([500])
    x0, x_in, noise = g["loss_x0"], g["loss_x_in"], g["loss_eps"]
    x_t = process.diffuse(x0, x_in - x0, noise, t)
    with torch.inference_mode():
        outputs = released_model(ours).denoise(x_t, t, x_in, textures())
        predicted = objective.convert(outputs, process, x_t, x_in, t, clamp=False)
        s = Step(
            dict(zip(objective.outputs, outputs, strict=True)),
            dict(zip(objective.outputs, objective.targets(x0, x_in, noise), strict=True)),
            process.posterior_mean(x_t, predicted.residual, predicted.noise, t),
            process.posterior_mean(x_t, x_in - x0, noise, t),
            predicted.x0,
            x0,
            x_in - predicted.residual,
        )
        state = {".".join(k.split(".")[2:]): v for k, v in released_state(f"model:{variant}").items()
                 if k.startswith("vgg19.slice")}  # fmt: skip
        features = TRUNKS["vgg19"].build(weights=None).features[: TRUNKS["vgg19"].layers]
        features.load_state_dict(state)
        trunk = Trunk(features)
        a, b = trunk((s.posterior + 1) / 2), trunk((s.posterior_target + 1) / 2)
    terms = {
        "loss_res": LOSSES.build({"type": "l1", "of": "residual"}, "")(s),
        "loss_noise": LOSSES.build({"type": "l1", "of": "noise"}, "")(s),
        "loss_pixel_l1": LOSSES.build({"type": "posterior"}, "")(s),
        "loss_vgg_mse": F.mse_loss(a, b),
    }
    for name, value in terms.items():
        assert relative_error(value, g[name]) < 1e-4, name
    total = terms["loss_res"] + terms["loss_noise"] + 500 * terms["loss_pixel_l1"] + 300 * terms["loss_vgg_mse"]
    assert relative_error(total, g["loss_total"]) < 1e-4


def test_trunk_files_that_cannot_be_used(tmp_path, squeezenet_file):
    with pytest.raises(UserError, match=r"nothing\.pth: no such file.*squeezenet.*https://"):
        load_trunk("squeezenet", str(tmp_path / "nothing.pth"))
    with pytest.raises(UserError, match="does not hold vgg19"):
        load_trunk("vgg19", str(squeezenet_file))
    cut = tmp_path / "cut.pth"
    cut.write_bytes(squeezenet_file.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be read"):
        load_trunk("squeezenet", str(cut))
    other = tmp_path / "list.pth"
    torch.save([1, 2], other)
    with pytest.raises(UserError, match="holds no state dict"):
        load_trunk("squeezenet", str(other))


def test_no_file_and_no_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: as without a network
    with pytest.raises(UserError, match=r"could not be downloaded.*Bring https://.*vgg19.*set the loss's `file`"):
        load_trunk("vgg19")


def test_a_downloaded_trunk_is_taken_from_torchs_cache(tmp_path, monkeypatch, squeezenet_file):
    """torchvision's cache is where users without a network put the file by hand."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / SOURCES["squeezenet"].file_name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(squeezenet_file.read_bytes())
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_trunk("squeezenet")(image), load_trunk("squeezenet", str(squeezenet_file))(image))


def test_options_of_losses_are_checked():
    with pytest.raises(ConfigError, match="of"):
        LOSSES.build({"type": "l1", "of": "x0"}, "losses.0")
    with pytest.raises(ConfigError, match="weight"):
        LOSSES.build({"type": "posterior", "weight": -1.0}, "losses.0")
    for weight in ([], [[1.0]], [[0, 1, 2]], [[0, -1.0]], [[5, 1], [5, 2]], "1"):
        with pytest.raises(ConfigError, match="weight"):
            LOSSES.build({"type": "restored", "weight": weight}, "losses.0")


def test_weights_by_step():
    assert [weight_at(0.3, step) for step in (0, 10**6)] == [0.3, 0.3]
    weight = LOSSES.build({"type": "restored", "weight": [[20, 0.5], [10, 2], [30, 0]]}, "losses.0").weight
    assert turns([1.0, weight, [[10, 1], [0.5, 1]]]) == [0, 1, 10, 20, 30]
    assert turns([1.0]) == [0]
    assert [weight_at(weight, step) for step in (0, 9, 10, 19, 20, 29, 30, 99)] == [0, 0, 2, 2, 0.5, 0.5, 0, 0]


LOSSES_OF_A_STEP = [
    {"type": "l1", "of": "residual"},
    {"type": "l2", "of": "noise"},
    {"type": "posterior"},
    {"type": "restored"},
    {"type": "ssim", "image": "faithful"},
    {"type": "consistency"},
    {"type": "grid"},
    {"type": "perceptual", "trunk": "squeezenet"},
    {"type": "features", "trunk": "squeezenet"},
    {"type": "distilled"},
    {"type": "ssim", "image": "x0", "by_fidelity": True},
    {"type": "restored", "by_fidelity": True},
]


def told_step() -> Step:
    """A step with a teacher, of images of different fidelities."""
    return replace(step(), x0_teacher=torch.randn(2, 3, 32, 32) * 0.3, fidelity=torch.tensor([0.25, 0.625]))


@pytest.fixture(params=LOSSES_OF_A_STEP, ids=lambda o: o["type"] + "_by_fidelity" * o.get("by_fidelity", False))
def any_loss(request, squeezenet_file, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # features are float32 then
    file = {"file": str(squeezenet_file)} if "trunk" in request.param else {}
    return LOSSES.build(request.param | file, "losses.0")


def some_valid(n=2, size=32):
    valid = torch.rand(n, 1, size, size) > 0.3
    valid[0, :, :16] = False
    return valid


def predictions(s):
    return [*s.outputs.values(), s.posterior, s.x0, s.faithful]


def test_what_is_predicted_without_data_neither_counts_nor_has_a_gradient(any_loss):
    s, valid = told_step(), some_valid()
    for prediction in predictions(s):
        prediction.requires_grad_()
    value = any_loss(s.masked(valid))
    value.backward()
    gradients = [prediction.grad for prediction in predictions(s) if prediction.grad is not None]
    assert len(gradients) == 1  # of what this loss looks at
    assert not gradients[0][~valid.expand_as(gradients[0])].any()
    assert gradients[0][valid.expand_as(gradients[0])].abs().sum() > 0
    with torch.no_grad():
        for prediction in predictions(s):
            prediction[~valid.expand_as(prediction)] += 100
        assert any_loss(s.masked(valid)) == value


def test_without_masked_pixels_nothing_changes(any_loss):
    s = told_step()
    assert any_loss(s.masked(torch.ones(2, 1, 32, 32, dtype=torch.bool))) == any_loss(s)


def test_a_masked_term_is_the_sum_over_valid_pixels_by_all_pixels():
    s, valid = step(), some_valid()
    difference = (s.outputs["residual"] - s.targets["residual"]).abs()
    expected = difference[valid.expand_as(difference)].sum() / difference.numel()
    loss = LOSSES.build({"type": "l1", "of": "residual"}, "losses.0")
    torch.testing.assert_close(loss(s.masked(valid)), expected)


def test_two_processes_of_one_image_average_to_one_of_two(any_loss):
    """However unevenly the data are spread over the images."""
    s, valid = told_step(), some_valid()
    assert 0.2 < valid[0].float().mean() < 0.5 < valid[1].float().mean()

    def share(row):
        part = slice(row, row + 1)
        cut = Step(
            {k: v[part] for k, v in s.outputs.items()}, {k: v[part] for k, v in s.targets.items()},
            s.posterior[part], s.posterior_target[part], s.x0[part], s.x0_target[part],
            s.faithful[part], s.x0_teacher[part], s.fidelity[part],
        )  # fmt: skip
        return any_loss(cut.masked(valid[part]))

    torch.testing.assert_close((share(0) + share(1)) / 2, any_loss(s.masked(valid)), rtol=1e-5, atol=1e-7)
