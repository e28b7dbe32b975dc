"""Matching and transfer against plain versions that unfold every patch."""

import pytest
import torch
import torch.nn.functional as F
from networks.plain import plain_similarity, plain_transfer

from ttrd3.networks.matching import match
from ttrd3.networks.sttg import STTG, at_least
from ttrd3.networks.transfer import overlap, transfer

UNBOUNDED = 2**40


@pytest.fixture
def features():
    return torch.randn(2, 6, 5, 7, dtype=torch.float64), torch.randn(2, 6, 8, 4, dtype=torch.float64)


def test_matching_equals_unfolding(features):
    expected, index = plain_similarity(*features).topk(3, dim=2)
    found = match(*features, 3, UNBOUNDED)
    assert torch.equal(found.index, index)
    torch.testing.assert_close(found.similarity, expected)


def test_chunked_matching_equals_unchunked(features):
    whole = match(*features, 3, UNBOUNDED)
    for memory in (1, 20_000, 40_000):
        chunked = match(*features, 3, memory)
        assert torch.equal(chunked.index, whole.index)
        assert torch.equal(chunked.similarity, whole.similarity)


def test_matching_has_the_gradients_of_the_plain_similarity(features):
    lr, reference = (x.requires_grad_() for x in features)
    weight = torch.randn(2, 35, 3, dtype=torch.float64)
    plain = plain_similarity(lr, reference).topk(3, dim=2).values
    expected = torch.autograd.grad((plain * weight).sum(), (lr, reference))
    found = torch.autograd.grad((match(lr, reference, 3, UNBOUNDED).similarity * weight).sum(), (lr, reference))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_zero_features_match_without_nan():
    zeros = torch.zeros(1, 4, 3, 3)
    assert torch.equal(match(zeros, zeros, 2, UNBOUNDED).similarity, torch.zeros(1, 9, 2))


@pytest.mark.parametrize("s", [1, 2, 4])
def test_gathering_equals_unfolding(s):
    grid, reference_grid = (5, 7), (8, 4)
    reference = torch.randn(2, 3, reference_grid[0] * s, reference_grid[1] * s, dtype=torch.float64, requires_grad=True)
    index = torch.randint(32, (2, 35, 3))
    weights = torch.rand(2, 35, 3, dtype=torch.float64, requires_grad=True)
    found = transfer(reference, index, weights, grid, s)
    expected = plain_transfer(reference, index, weights, grid, s)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, (reference, weights), upstream),
        torch.autograd.grad(expected, (reference, weights), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("s", [1, 2, 4])
def test_overlap_is_the_fold_of_ones(s):
    grid = (4, 6)
    ones = torch.ones(1, 9 * s * s, 24)
    expected = F.fold(ones, (4 * s, 6 * s), 3 * s, padding=s, stride=s)
    torch.testing.assert_close(F.interpolate(overlap(grid, ones), scale_factor=s, mode="nearest"), expected)


def test_identity_matches_give_the_reference_back():
    """With every position matched to itself at weight one, true overlap normalisation is the identity."""
    reference = torch.randn(1, 3, 16, 24)
    index = torch.arange(24).view(1, 24, 1)
    for s, grid in ((4, (4, 6)),):
        summed = transfer(reference, index, torch.ones(1, 24, 1), grid, s)
        texture = summed / F.interpolate(overlap(grid, summed), scale_factor=s, mode="nearest")
        torch.testing.assert_close(texture, reference)


def build(**options):
    torch.manual_seed(1)
    return STTG(**options, widths=(16, 16, 16), scales=(1, 2, 4))


def inputs():
    torch.manual_seed(2)
    reference = [torch.randn(2, 16, 24 // s, 32 // s) for s in (1, 2, 4)]
    return torch.randn(2, 16, 4, 6), torch.randn(2, 16, 6, 8), reference


def test_textures_have_the_size_of_the_lr_image_not_of_the_reference():
    textures = build()(*inputs())
    assert [tuple(t.shape) for t in textures] == [(2, 16, 16, 24), (2, 16, 8, 12), (2, 16, 4, 6)]


@pytest.mark.parametrize("levels", [1, 2])
def test_fewer_levels_give_the_textures_of_the_small_sizes(levels):
    torch.manual_seed(1)
    fewer = STTG(matches=(5,) * levels, widths=(16,) * levels, scales=(1, 2, 4)[-levels:])
    whole = build()
    own = fewer.state_dict()
    fewer.load_state_dict({name: value for name, value in whole.state_dict().items() if name in own})
    lr, degraded, reference = inputs()
    textures = fewer(lr, degraded, reference[-levels:])
    assert len(textures) == levels
    for found, expected in zip(textures, whole(lr, degraded, reference)[-levels:], strict=True):
        assert torch.equal(found, expected)


def test_released_normalization_is_4_and_16_times_smaller_inside():
    ours, theirs = (build(selection="fixed", normalization=n) for n in ("overlap", "released"))
    for module in (ours, theirs):
        for excitation in module.excitations:
            excitation.mlp[2].weight.data.zero_()  # a constant weight per channel: only the division differs
    for s, a, b in zip((4, 2, 1), ours(*inputs()), theirs(*inputs()), strict=True):
        inner = slice(s, -s)
        torch.testing.assert_close(a[:, :, inner, inner], b[:, :, inner, inner] * s * s)


def test_learned_selection_weighs_rank_r_by_the_chance_that_k_reaches_it():
    logits = torch.tensor([0.0, 1.0, -1.0])
    p = logits.softmax(0)
    torch.testing.assert_close(at_least(logits), torch.stack([p.sum(), p[1] + p[2], p[2]]))
    certain = build(selection="learned", matches=(3, 3, 3))
    for k_logits in certain.k_logits:
        k_logits.data = torch.tensor([-100.0, 100.0, -100.0])  # K = 2, surely
    fixed = build(selection="fixed", matches=(2, 2, 2))
    for a, b in zip(certain(*inputs()), fixed(*inputs()), strict=True):
        torch.testing.assert_close(a, b)


def test_k_is_taken_level_by_level():
    mixed, ones, threes = (build(selection="fixed", matches=m) for m in ((1, 2, 3), (1, 1, 1), (3, 3, 3)))
    lv1, _, lv3 = mixed(*inputs())
    torch.testing.assert_close(lv3, ones(*inputs())[2])
    torch.testing.assert_close(lv1, threes(*inputs())[0])


def test_a_reference_smaller_than_k_gives_all_it_has():
    reference = [torch.randn(1, 16, 4 // s, 4 // s) for s in (1, 2, 4)]
    textures = build()(torch.randn(1, 16, 4, 4), torch.randn(1, 16, 1, 1), reference)
    assert all(t.isfinite().all() for t in textures)


def test_batches_do_not_mix():
    module = build()
    lr, degraded, reference = inputs()
    whole = module(lr, degraded, reference)
    for n in range(2):
        alone = module(lr[n : n + 1], degraded[n : n + 1], [r[n : n + 1] for r in reference])
        for a, b in zip(whole, alone, strict=True):
            torch.testing.assert_close(a[n : n + 1], b)


def several(count=3):
    """LR features of two images, and features of `count` references of each."""
    lr, _, _ = inputs()
    torch.manual_seed(3)
    reference = [torch.randn(2 * count, 16, 24 // s, 32 // s) for s in (1, 2, 4)]
    return lr, torch.randn(2 * count, 16, 6, 8), reference


def test_several_references_are_one_set_of_patches():
    """Against the plain version: the patches of all references side by side, and the K best of all of them."""
    module = build(selection="fixed", matches=(4, 4, 4))
    for excitation in module.excitations:
        for parameter in excitation.mlp[2].parameters():
            parameter.data.zero_()  # a weight of 0.5 for every channel
    lr, degraded, reference = several()
    textures = module(lr, degraded, reference)
    coded = module.positions[0](degraded)
    for n in range(2):
        mine = slice(3 * n, 3 * n + 3)
        local = torch.cat([plain_similarity(lr[n : n + 1], d[None]) for d in coded[mine]], dim=2)
        overall = F.cosine_similarity(lr[n].mean((1, 2))[None], coded[mine].mean((2, 3)))  # (3,)
        total = 0.9 * local + 0.1 * overall.repeat_interleave(48)
        weights, index = total.topk(4, dim=2)
        assert len(set((index // 48).flatten().tolist())) == 3  # every reference serves some place
        for s, texture, code, level in zip((4, 2, 1), textures, reversed(module.positions), reference, strict=True):
            patches = [F.unfold(code(level[r : r + 1]), 3 * s, padding=s, stride=s) for r in range(3 * n, 3 * n + 3)]
            patches = torch.cat(patches, dim=2)[0]  # (C 9 s s, 3 * 48)
            gathered = sum(weights[0, :, k].sigmoid() * patches[:, index[0, :, k]] for k in range(4))
            folded = F.fold(gathered[None], (4 * s, 6 * s), 3 * s, padding=s, stride=s)
            covered = F.interpolate(overlap((4, 6), folded), scale_factor=s, mode="nearest")
            torch.testing.assert_close(texture[n : n + 1], 0.5 * folded / covered)


def test_the_order_of_references_does_not_matter_and_gradients_reach_all():
    module = build()
    lr, degraded, reference = several()
    turned = torch.tensor([2, 0, 1, 4, 5, 3])
    for level in reference:
        level.requires_grad_()
    textures = module(lr, degraded, reference)
    for a, b in zip(textures, module(lr, degraded[turned], [level[turned] for level in reference]), strict=True):
        torch.testing.assert_close(a, b)
    sum(texture.square().sum() for texture in textures).backward()
    assert all(level.grad.flatten(1).any(1).all() for level in reference)


def test_a_reference_that_fits_nowhere_changes_nothing():
    module = build(selection="fixed", matches=(2, 2, 2))
    for parameter in module.positions[0].parameters():
        parameter.data.zero_()  # what is zero shall stay so
    lr, degraded, reference = inputs()
    assert (match(lr, degraded, 2, UNBOUNDED).similarity > 0.05).all()
    nothing = [torch.zeros_like(degraded), *(torch.randn_like(level) for level in reference)]  # similarity 0 everywhere
    both = [torch.stack(pair, dim=1).flatten(0, 1) for pair in zip([degraded, *reference], nothing, strict=True)]
    for a, b in zip(module(lr, degraded, reference), module(lr, both[0], both[1:]), strict=True):
        torch.testing.assert_close(a, b)
