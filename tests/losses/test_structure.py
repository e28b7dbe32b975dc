"""Losses of structure: SSIM against scikit-image's, the grid against grids that were put there, and consistency with an
LR image against Pillow's reduction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from losses.trunk_files import leaf, step
from skimage.metrics import structural_similarity

from ttrd3.data.degrade import lr_from_hr
from ttrd3.errors import DataError
from ttrd3.losses import LOSSES


@pytest.mark.parametrize("image", ["faithful", "x0"])
def test_ssim_is_that_of_the_metric(image):
    s = step(size=33)
    loss = LOSSES.build({"type": "ssim", "image": image, "weight": 0.3}, "losses.0")
    pairs = zip(getattr(s, image), s.x0_target, strict=True)
    expected = [
        structural_similarity(*(x.permute(1, 2, 0).numpy() for x in pair), channel_axis=2, data_range=2.0)
        for pair in pairs
    ]
    assert loss(s).item() == pytest.approx(1 - sum(expected) / len(expected), abs=1e-5)
    assert (loss.name, loss.weight) == (f"ssim_{image}", 0.3)


def test_ssim_of_the_truth_is_one_and_its_gradient_leads_there():
    s = step()
    loss = LOSSES.build({"type": "ssim", "image": "faithful"}, "losses.0")
    assert loss(replace(s, faithful=s.x0_target)).item() == pytest.approx(0, abs=1e-6)
    image = leaf(s.faithful)
    before = loss(replace(s, faithful=image))
    before.backward()
    after = loss(replace(s, faithful=image.detach() - 100 * image.grad))
    assert after < before


@pytest.mark.parametrize(
    ("section", "name"),
    [({"type": "ssim", "image": "x0"}, "ssim_x0_by_fidelity"), ({"type": "restored"}, "restored_l1_by_fidelity")],
)
def test_by_fidelity_each_image_is_weighed_and_the_realistic_end_left_alone(section, name):
    s = replace(step(n=3, size=33), fidelity=torch.tensor([0.0, 0.5, 0.75]))
    loss = LOSSES.build(section | {"by_fidelity": True}, "losses.0")
    plain = LOSSES.build(section, "losses.0")
    second, third = (plain(replace(s, x0=s.x0[n : n + 1], x0_target=s.x0_target[n : n + 1])).item() for n in (1, 2))
    assert loss(s).item() == pytest.approx((second + 3 * third) / 3, rel=1e-5)
    assert loss.name == name


def pattern(size: int) -> torch.Tensor:
    """A grid of 4 x 4 pixels, of mean 0."""
    torch.manual_seed(8)
    one = torch.randn(3, 4, 4)
    return (one - one.mean((1, 2), keepdim=True)).repeat(1, size // 4, size // 4)


def test_the_grid_loss_sees_a_grid_and_neither_shifts_of_colour_nor_smooth_errors():
    size = 64
    s, drawn = step(size=size), pattern(64)
    loss = LOSSES.build({"type": "grid", "weight": 2.0}, "losses.0")
    on_truth = replace(s, x0=s.x0_target + 0.1 * drawn)
    assert loss(on_truth).item() == pytest.approx(0.1 * drawn.abs().mean().item(), rel=1e-4)
    assert loss(replace(s, x0=s.x0_target + 0.1)).item() == pytest.approx(0, abs=1e-6)
    # An error that is the same in all pixels of a fold is one of the LR image, not a grid.
    coarse = torch.randn(2, 3, size // 4, size // 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert loss(replace(s, x0=s.x0_target + coarse)).item() == pytest.approx(0, abs=1e-6)
    assert (loss.name, loss.weight) == ("grid", 2)


def test_the_grid_of_each_window_counts_though_they_cancel():
    s, drawn = step(size=64), pattern(64)
    drawn[:, :32] *= -1
    loss = LOSSES.build({"type": "grid"}, "losses.0")
    assert loss(replace(s, x0=s.x0_target + drawn)).item() == pytest.approx(drawn.abs().mean().item(), rel=1e-4)


def test_consistency_is_the_difference_of_the_images_that_pillow_reduces():
    s = step(size=48)
    sr, hr = ((x + 1) * 127.5 for x in (s.x0.clamp(-1, 1), s.x0_target.clamp(-1, 1)))
    small = [
        np.stack([lr_from_hr(image.permute(1, 2, 0).numpy().round().astype(np.uint8)) for image in images])
        for images in (sr, hr)
    ]
    loss = LOSSES.build({"type": "consistency", "weight": 5.0}, "losses.0")
    found = loss(replace(s, x0=s.x0.clamp(-1, 1), x0_target=s.x0_target.clamp(-1, 1))).item()
    expected = np.abs(small[0].astype(float) - small[1].astype(float)).mean() / 127.5
    assert found == pytest.approx(expected, abs=0.5 / 127.5)  # both reductions are rounded
    assert found > 5 / 127.5
    assert (loss.name, loss.weight) == ("consistency", 5)


def test_consistency_leaves_alone_what_the_lr_image_does_not_say():
    s = step(size=48)
    loss = LOSSES.build({"type": "consistency"}, "losses.0")
    unseen = torch.ones(48)
    unseen[1::2] = -1  # the highest frequency, which the reduction of whole folds takes out but at the edges
    detail = (0.3 * unseen[:, None] * unseen[None]).expand_as(s.x0)
    assert loss(replace(s, x0=s.x0_target + detail)).item() < 1e-3
    assert loss(replace(s, x0=s.x0_target + 0.1)).item() == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(
    ("section", "size", "expected"),
    [
        ({"type": "ssim", "image": "x0"}, 6, "at least 7 x 7"),
        ({"type": "consistency"}, 3, "at least 4 x 4 and multiples of 4"),
        ({"type": "grid"}, 28, "at least 32 x 32"),
        ({"type": "grid"}, 38, "at least 32 x 32 and multiples of 4"),
    ],
)
def test_images_that_a_window_does_not_fit(section, size, expected):
    with pytest.raises(DataError, match=f"{size} x {size} pixels, expected {expected}.*data.train.crop"):
        LOSSES.build(section, "losses.0")(step(size=size))
