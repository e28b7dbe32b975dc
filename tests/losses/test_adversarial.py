"""The adversarial term: its values by hand, whose gradient goes where, and that critics learn."""

from dataclasses import replace

import pytest
import torch
from losses.trunk_files import leaf, step
from metrics.weights import save_features
from torchvision import models

from ttrd3.losses import LOSSES


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_features(tmp_path_factory.mktemp("trunk") / "squeezenet.pth", models.squeezenet1_1)


@pytest.fixture
def loss(file):
    options = {"type": "adversarial", "trunk": "squeezenet", "file": str(file), "width": 8, "learning_rate": 1e-2}
    return LOSSES.build(options, "losses.0")


class Saying(torch.nn.Module):
    """Critics that say what they are told, of x_0 first and then of HR."""

    def __init__(self, *said):
        super().__init__()
        self.said = list(said)

    def forward(self, features, truth):
        return [torch.tensor(values).view(-1, 1, 1, 1) for values in self.said.pop(0)]


def test_hinge_by_hand(loss):
    loss.critic = Saying([[0.5, -3.0], [2.0, 1.0]])  # of two images, at two depths
    assert loss(step()) == pytest.approx(-((0.5 - 3.0) / 2 + (2.0 + 1.0) / 2) / 2)
    loss.critic = Saying([[0.5, -3.0], [2.0, -1.0]], [[0.25, 4.0], [-1.0, 1.0]])
    fake = [(1.5 + 0.0) / 2, (3.0 + 0.0) / 2]
    real = [(0.75 + 0.0) / 2, (2.0 + 0.0) / 2]
    assert loss.critic_loss(step()) == pytest.approx((fake[0] + real[0] + fake[1] + real[1]) / 2)


def test_what_is_predicted_without_data_neither_counts_nor_teaches(loss):
    """Neither the networks nor the critics."""
    valid = torch.rand(2, 1, 32, 32) > 0.3
    s = replace(step(), x0=leaf(step().x0))
    loss(s.masked(valid)).backward()
    assert not s.x0.grad[~valid.expand_as(s.x0)].any()
    assert s.x0.grad[valid.expand_as(s.x0)].abs().sum() > 0
    other = replace(s, x0=torch.where(valid, s.x0, s.x0 + 100).detach())
    loss.critic.eval()  # each look in training improves the spectral norm's estimate
    assert loss(other.masked(valid)) == loss(s.masked(valid))
    assert loss.critic_loss(other.masked(valid)) == loss.critic_loss(s.masked(valid))


def test_critics_look_at_all_depths(loss):
    s = step()
    features = s.features(loss.trunk, "x0")
    assert len(loss.critic) == len(features)
    for said, feature in zip(loss.critic(features, features), features, strict=True):
        assert said.shape == (2, 1, *(-(-side // 2) for side in feature.shape[2:]))
        assert said.dtype == torch.float32


def test_the_networks_gradient_never_reaches_the_critics_nor_theirs_the_networks(loss):
    s = replace(step(), x0=leaf(step().x0))
    loss(s).backward()
    assert s.x0.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.critic.parameters())
    former = s.x0.grad.clone()
    loss.critic_loss(s).backward()
    assert torch.equal(s.x0.grad, former)
    assert all(parameter.grad.isfinite().all() for parameter in loss.critic.parameters())
    assert all(any(p.grad.any() for p in critic.parameters()) for critic in loss.critic)
    before = [parameter.grad.clone() for parameter in loss.critic.parameters()]
    loss(replace(s, _features={})).backward()  # the next step
    assert all(torch.equal(p.grad, b) for p, b in zip(loss.critic.parameters(), before, strict=True))
    assert not any(parameter.requires_grad for parameter in loss.trunk.parameters())


def test_critics_learn_to_tell_two_textures_apart(loss):
    stripes = torch.ones(32, 32)
    stripes[::2] = -1
    real, fake = (texture.expand(2, 3, 32, 32) for texture in (stripes, stripes.T))
    s = replace(step(), x0=fake, x0_target=real)
    values = []
    for _ in range(30):
        value = loss.critic_loss(s)
        value.backward()
        loss.adam.step()
        loss.adam.zero_grad()
        values.append(value.item())
    assert values[0] > 1.5  # 2 says nothing
    assert values[-1] < 0.5
    assert loss(s) > 0.5 > -0.5 > loss(replace(s, x0=real, _features={}))


def test_the_same_seed_gives_the_same_critics(file):
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        loss = LOSSES.build({"type": "adversarial", "trunk": "squeezenet", "file": str(file)}, "losses.0")
        states.append(loss.critic.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_critics_see_is_about_1_whatever_the_networks_scale(loss):
    loss.critic.eval()  # in training each look improves the spectral norm's estimate
    features = [torch.randn(2, critic[0].in_channels, 8, 8) for critic in loss.critic]
    strong = [40 * feature for feature in features]
    for said, same in zip(loss.critic(features, features), loss.critic(strong, strong), strict=True):
        torch.testing.assert_close(said, same)
    weak = loss.critic([feature / 2 for feature in features], features)  # but how strong they are beside HR's counts
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(weak, loss.critic(features, features), strict=True))


def test_critics_learn_to_see_a_grid_of_single_pixels(loss):
    """As a fold of 4 x 4 pixels into channels may leave it."""
    torch.manual_seed(5)
    real = torch.randn(4, 3, 32, 32) * 0.05
    grid = torch.zeros(32, 32)
    grid[::4, ::4] = 0.2
    values = []
    for _ in range(40):
        value = loss.critic_loss(replace(step(), x0=real + grid, x0_target=real))
        value.backward()
        loss.adam.step()
        loss.adam.zero_grad()
        values.append(value.item())
    assert values[0] > 1.5
    assert values[-1] < 1.0
