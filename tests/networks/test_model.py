"""Every registered network: gradients, options, sizes; and the parts against closed forms."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from networks.small import small_encoder, small_transfer, small_unet

from ttrd3.errors import ConfigError, DataError
from ttrd3.networks.layers import ChannelLayerNorm, LinearAttention, TimeEmbedding, WeightStandardizedConv2d
from ttrd3.networks.model import TTRD3
from ttrd3.networks.variants import UNETS


def small(unet="1Net-A", block="paper", outputs=2, levels=3, **transfer):
    return TTRD3.from_options(
        small_encoder(levels, block=block), small_transfer(levels, **transfer), small_unet(unet), outputs
    )


def images(n=2, h=16, w=24):
    return [torch.rand(n, 3, h, w) for _ in range(3)]


COMBINATIONS = [
    *itertools.product(UNETS, ("paper", "released"), ("fixed", "learned"), (1, 2), (3,)),
    *itertools.product(("S",), ("paper", "released"), ("learned",), (2,), (1, 2)),  # it takes textures of any sizes
]


@pytest.mark.parametrize(("unet", "block", "selection", "outputs", "levels"), COMBINATIONS)
def test_every_parameter_gets_a_gradient(unet, block, selection, outputs, levels):
    without = None
    for _ in range(4):  # a ReLU may be dead for one draw of the weights, not for all
        model = small(unet, block, outputs, levels, selection=selection)
        up, reference, degraded = images()
        found = model(torch.randn(2, 3, 16, 24), torch.tensor([0, 7]), up, reference, degraded)
        assert len(found) == outputs
        assert all(image.shape == up.shape for image in found)
        sum((image * torch.randn_like(image)).sum() for image in found).backward()
        idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        without = idle if without is None else without & idle
    assert without == set()


@pytest.mark.parametrize(("unet", "levels"), [("1Net-A", 3), ("S", 1)])
def test_no_reference_gives_zero_textures_and_a_result(unet, levels):
    model = small(unet, levels=levels)
    up, reference, degraded = images()
    assert all(not t.any() for t in model.encode(up, None, None))
    mixed = model.encode(up, reference, degraded, torch.tensor([True, False]))
    full = model.encode(up, reference, degraded)
    for some, every, none in zip(mixed, full, model.encode(up, None, None), strict=True):
        assert some.shape == none.shape
        torch.testing.assert_close(some[0], every[0])
        assert not some[1].any()
    assert model(up, torch.tensor([3, 3]), up)[0].isfinite().all()


@pytest.mark.parametrize(("unet", "levels"), [("1Net-A", 3), ("S", 1)])
@pytest.mark.parametrize("several", [False, True])
def test_images_without_a_reference_cost_nothing_and_change_nothing(unet, levels, several):
    """The textures and gradients of encoding all, then masking; the encoder sees only what it must."""
    model = small(unet, levels=levels)
    up, reference, degraded = images(3)
    if several:
        reference, degraded = (torch.stack([image, image.flip(0)], dim=1) for image in (reference, degraded))
    has_reference, seen = torch.tensor([True, False, True]), []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    parameters = [*model.encoder.parameters(), *model.transfer.parameters()]

    def gradients(textures):
        torch.manual_seed(5)
        total = sum((texture * torch.randn_like(texture)).sum() for texture in textures)
        return torch.autograd.grad(total, parameters)

    every = model.encode(up, reference, degraded)
    masked = [torch.where(has_reference.view(-1, 1, 1, 1), texture, 0) for texture in every]
    all_of_them = sum(seen)
    seen.clear()
    found = model.encode(up, reference, degraded, has_reference)
    assert sum(seen) * 3 == all_of_them * 2
    for a, b in zip(found, masked, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(gradients(found), gradients(masked), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_batch_without_any_reference_costs_one_image_in_training_alone():
    """So that every parameter has a gradient in every process: of zeros, as if all were encoded, then masked."""
    model, (up, reference, degraded), seen = small("S", levels=1), images(), []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    inputs = up, torch.tensor([3, 3]), up
    found = model(*inputs, reference, degraded, torch.tensor([False, False]))
    assert seen == [3]
    for a, b in zip(found, model(*inputs), strict=True):
        assert torch.equal(a, b)
    found[0].sum().backward()
    assert not any(p.grad.any() for part in (model.encoder, model.transfer) for p in part.parameters())
    assert model.unet.first.weight.grad.any()
    with torch.inference_mode():
        for a, b in zip(found, model(*inputs, reference, degraded, torch.tensor([False, False])), strict=True):
            assert torch.equal(a, b)
    assert seen == [3]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_an_encoder_ends_at_quarter_size_with_any_number_of_levels(levels):
    model = small("S", levels=levels)
    assert tuple(model.encoder.scales) == (1, 2, 4)[-levels:]
    sizes = [(2, width, 16 // s, 24 // s) for width, s in zip(model.encoder.widths, model.encoder.scales, strict=True)]
    up, reference, degraded = images()
    assert [tuple(level.shape) for level in model.encoder(up)] == sizes
    assert [tuple(texture.shape) for texture in model.encode(up, reference, degraded)] == sizes


def test_reference_of_another_size():
    model = small()
    up, reference, degraded = *images(1, 16, 16)[:1], *images(1, 32, 24)[:2]
    textures = model.encode(up, reference, degraded)
    assert [t.shape[2:] for t in textures] == [(16, 16), (8, 8), (4, 4)]


@pytest.mark.parametrize("size", [(16, 24), (32, 24)])
def test_several_references(size):
    model = small()
    up, references, degraded = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 3, *size), torch.rand(2, 3, 3, *size)
    textures = model.encode(up, references, degraded)
    assert [t.shape[2:] for t in textures] == [(16, 24), (8, 12), (4, 6)]
    for n in range(2):  # what is of one image stays with it
        alone = model.encode(up[n : n + 1], references[n : n + 1], degraded[n : n + 1])
        for a, b in zip(textures, alone, strict=True):
            torch.testing.assert_close(a[n : n + 1], b)
    one = model.encode(up, references[:, :1], degraded[:, :1])
    for a, b in zip(one, model.encode(up, references[:, 0], degraded[:, 0]), strict=True):
        assert torch.equal(a, b)
    assert not any(torch.allclose(a, b) for a, b in zip(textures, one, strict=True))


@pytest.mark.parametrize("unet", ["1Net-A", "S"])
@pytest.mark.parametrize("size", [(16, 20), (12, 16)])
def test_a_size_that_does_not_halve_is_an_error(unet, size):
    with pytest.raises(DataError, match=r"multiples of 8"):
        small(unet).encode(torch.rand(1, 3, *size), None, None)


def test_other_numbers_of_levels():
    for multipliers in ([1, 2, 2], [1, 1, 2, 2, 2]):
        unet = {"type": "2Net", "width": 8, "multipliers": multipliers}
        model = TTRD3.from_options(small_encoder(), small_transfer(), unet, outputs=2)
        assert model.size_multiple == 2 ** (len(multipliers) - 1)
        up, reference, degraded = images(1, 32, 32)
        assert model(up, torch.tensor([1]), up, reference, degraded)[1].shape == up.shape


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        ({"width": 8, "multipliers": [1, 2]}, "at least 3 levels"),
        ({"width": 12}, "multiple of 8"),
        ({"width": 0}, "width"),
        ({"multipliers": [1, 2, "4", 8]}, "multipliers"),
        ({"with": 64}, "with"),
    ],
)
def test_impossible_options_are_errors(unet, message):
    with pytest.raises(ConfigError, match=message):
        TTRD3.from_options({"type": "MFAB"}, {"type": "STTG"}, {"type": "1Net-A"} | unet, outputs=2)


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        ({"widths": [8]}, r"model\.unet: widths: .*at least 2 items"),
        (
            {"widths": [8, 8]},
            "found 2 widths, 3 encoder_blocks and 2 decoder_blocks, expected as many",
        ),
        ({"decoder_blocks": [1, 1, 1]}, "3 decoder_blocks, expected .* and one fewer decoder_blocks"),
        ({"width": 8}, "width: Extra inputs"),
    ],
)
def test_impossible_options_of_the_small_network(unet, message):
    with pytest.raises(ConfigError, match=message):
        TTRD3.from_options(small_encoder(1), small_transfer(1), {"type": "S"} | unet, outputs=2)


def test_a_noise_branch_starts_with_the_noise_and_changes_no_other_output():
    """Where sampling starts x_t - x_in = bbar eps, with bbar = 0.1."""
    torch.manual_seed(1)
    network = TTRD3.from_options(small_encoder(1), small_transfer(1), small_unet("S", noise_blocks=2), 2).unet
    x_in, eps, textures = torch.rand(1, 3, 16, 32), torch.randn(1, 3, 16, 32), [torch.rand(1, 16, 4, 8)]
    residual, noise = network(x_in + 0.1 * eps, x_in, torch.tensor([9]), textures)
    assert 0 < (noise - eps).square().mean() < 0.05
    with torch.no_grad():
        for parameter in network.noise.parameters():
            parameter.normal_()
    changed = network(x_in + 0.1 * eps, x_in, torch.tensor([9]), textures)
    assert torch.equal(changed[0], residual)
    assert not torch.isclose(changed[1], noise).any()


def test_a_branch_that_is_told_the_fidelity_begins_as_a_share_and_ends_with_the_noise():
    torch.manual_seed(1)
    options = small_unet("S", noise_blocks=2, told_fidelity=True)
    network = TTRD3.from_options(small_encoder(1), small_transfer(1), options, 2).unet
    x_in, eps, textures = torch.rand(3, 3, 16, 32), torch.randn(3, 3, 16, 32), [torch.rand(3, 16, 4, 8)]
    inputs = x_in + 0.1 * eps, x_in, torch.tensor([9, 9, 9]), textures
    fidelity = torch.tensor([0.0, 0.25, 1.0])
    before, realistic = (network(*inputs, told)[1] for told in (fidelity, None))
    share = (1 - fidelity)[:, None, None, None]
    torch.testing.assert_close(before, eps + share * (realistic - eps))
    with torch.no_grad():
        for parameter in network.noise.parameters():
            parameter.normal_()
    after, realistic = (network(*inputs, told)[1] for told in (fidelity, None))
    torch.testing.assert_close(after[0], realistic[0])
    assert not torch.isclose(after[1], eps[1] + 0.75 * (realistic[1] - eps[1])).any()
    torch.testing.assert_close(after[2], eps[2])


def test_every_parameter_of_a_told_branch_gets_a_gradient():
    torch.manual_seed(1)
    options = small_unet("S", noise_blocks=2, told_fidelity=True)
    model = TTRD3.from_options(small_encoder(1), small_transfer(1), options, 2)
    with torch.no_grad():
        for parameter in model.unet.noise.fidelity.parameters():
            parameter.normal_()  # before any training the last of them are 0, and stop the gradient of the first
    up, reference, degraded = images()
    found = model(torch.randn(2, 3, 16, 24), torch.tensor([0, 7]), up, reference, degraded, None, torch.rand(2))
    sum((image * torch.randn_like(image)).sum() for image in found).backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == set()


def test_blocks_of_the_residual_alone_change_no_other_output_and_learn():
    torch.manual_seed(1)
    options = small_unet("S", noise_blocks=1, residual_blocks=2)
    network = TTRD3.from_options(small_encoder(1), small_transfer(1), options, 2).unet
    x_t, x_in = torch.rand(2, 2, 3, 16, 32)
    t, textures = torch.tensor([0, 9]), [torch.rand(2, 16, 4, 8)]
    residual, noise = network(x_t, x_in, t, textures)
    residual.square().mean().backward()
    assert all(parameter.grad.any() for parameter in network.residual.parameters())
    with torch.no_grad():
        for parameter in network.residual.parameters():
            parameter.normal_()
    changed = network(x_t, x_in, t, textures)
    assert not torch.isclose(changed[0], residual).any()
    assert torch.equal(changed[1], noise)


def test_blocks_of_the_residual_alone_need_those_of_the_noise():
    with pytest.raises(ConfigError, match=r"residual_blocks: found 1, expected 0 without model.unet.noise_blocks"):
        TTRD3.from_options(small_encoder(1), small_transfer(1), small_unet("S", residual_blocks=1), outputs=2)


def test_only_a_noise_branch_is_told_the_fidelity():
    with pytest.raises(ConfigError, match=r"told_fidelity: found true, expected false without .*noise_blocks"):
        TTRD3.from_options(small_encoder(1), small_transfer(1), small_unet("S", told_fidelity=True), outputs=2)


def test_one_output_has_no_noise_branch():
    with pytest.raises(ConfigError, match=r"noise_blocks: found 2, expected 0 with an objective of one output"):
        TTRD3.from_options(small_encoder(1), small_transfer(1), small_unet("S", noise_blocks=2), outputs=1)


@pytest.mark.parametrize("unet", [kind for kind in UNETS if kind != "S"])
def test_the_papers_networks_need_textures_of_three_sizes(unet):
    with pytest.raises(ConfigError, match=r"model\.encoder\.widths: found 1 levels, expected 3: .*unet\.type: S"):
        small(unet, levels=1)


@pytest.mark.parametrize("matches", [[5], [1, 2, 3]])
def test_every_level_needs_its_number_of_matches(matches):
    with pytest.raises(ConfigError, match=r"model\.transfer\.matches: found \[.*\], expected 2 numbers.*\[8, 16\]"):
        small("S", levels=2, matches=matches)


# In HR pixels: the first and last convolution and those of five blocks, of which two at half the size, with the pixel
# that folding and halving may add.
REACH = 4 * (1 + 2 + 2 * 4 + 4 + 1 + 2)


def far_away(network, x, other):
    """What the first output is left of column 160 for two images that differ from there on."""
    t, nothing = torch.tensor([3]), [x.new_zeros(1, 16, 4, 64)]
    changed = torch.cat([x[..., :160], other[..., 160:]], dim=3)
    with torch.inference_mode():
        return [network(2 * image, image, t, nothing)[0][..., :160] for image in (x, changed)]


def test_the_small_network_sees_so_far_and_no_farther():
    network = small("S", levels=1).unet
    one, two = far_away(network, *images(1, 16, 256)[:2])
    assert torch.equal(one[..., : 160 - REACH], two[..., : 160 - REACH])
    assert not torch.isclose(one[..., 156:], two[..., 156:], rtol=0, atol=1e-6).all()


def test_the_small_network_is_the_same_everywhere():
    network, (x, noise, _) = small("S", levels=1).unet, images(1, 16, 256)
    t, nothing = torch.tensor([3]), [x.new_zeros(1, 16, 4, 64)]
    with torch.inference_mode():
        here = network(noise, x, t, nothing)
        there = network(noise.roll(8, 3), x.roll(8, 3), t, nothing)
    inner = slice(REACH + 8, 256 - REACH)
    assert inner.stop - inner.start > 80
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(b[..., inner], a.roll(8, 3)[..., inner])


def test_unknown_type_lists_the_known():
    with pytest.raises(ConfigError, match=r"model\.unet\.type: found '3Net', expected one of: 1Net-A, 1Net-B, 2Net, S"):
        TTRD3.from_options({"type": "MFAB"}, {"type": "STTG"}, {"type": "3Net"}, outputs=2)


def test_weight_standardised_convolution_ignores_scale_and_offset_of_its_weights():
    conv, x = WeightStandardizedConv2d(3, 5, 3, padding=1), torch.randn(1, 3, 6, 6)
    before = conv(x)
    conv.weight.data = conv.weight.data * 100 + 7
    torch.testing.assert_close(conv(x), before, rtol=1e-2, atol=1e-2)  # but for eps
    filters = conv.weight.detach()
    mean, deviation = filters.mean((1, 2, 3), keepdim=True), filters.var((1, 2, 3), correction=0, keepdim=True)
    expected = F.conv2d(x, (filters - mean) / (deviation + 1e-5).sqrt(), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected)


def test_channel_layer_norm():
    norm, x = ChannelLayerNorm(6), torch.randn(2, 6, 3, 3) * 4 + 2
    torch.testing.assert_close(norm(x), F.layer_norm(x.movedim(1, -1), (6,), eps=1e-5).movedim(-1, 1))


def test_time_embedding_is_sines_then_cosines():
    embedding = TimeEmbedding(8)
    embedding.mlp = torch.nn.Identity()
    t = torch.tensor([0, 5])
    frequency = 10000 ** (-torch.arange(4) / 3)
    expected = torch.cat([torch.sin(t[:, None] * frequency), torch.cos(t[:, None] * frequency)], dim=1)
    torch.testing.assert_close(embedding(t), expected)


def test_linear_attention_against_loops():
    attention, x = LinearAttention(8), torch.randn(1, 8, 2, 3)
    qkv = attention.qkv(attention.norm(x)).reshape(3, 4, 32, 6)
    out = torch.zeros(4, 32, 6)
    for head in range(4):
        q, k, v = qkv[0, head].softmax(0) * 32**-0.5, qkv[1, head].softmax(1), qkv[2, head] / 6
        for i, j in itertools.product(range(6), range(6)):  # each position gathers from each other
            out[head, :, i] += (q[:, i] @ k[:, j]) * v[:, j]
    torch.testing.assert_close(attention(x), x + attention.out(out.reshape(1, 128, 2, 3)), rtol=1e-4, atol=1e-5)
