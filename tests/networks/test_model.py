"""Every registered network: gradients, options, sizes; and the parts against closed forms."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from ttrd3.errors import ConfigError, DataError
from ttrd3.networks.layers import ChannelLayerNorm, LinearAttention, TimeEmbedding, WeightStandardizedConv2d
from ttrd3.networks.model import TTRD3
from ttrd3.networks.variants import UNETS

SMALL_UNET = {"width": 8, "multipliers": [1, 2, 2, 3]}
SMALL_ENCODER = {"type": "MFAB", "widths": [8, 8, 16], "hidden": 4}


def small(unet="1Net-A", block="paper", outputs=2, **transfer):
    return TTRD3.from_options(
        SMALL_ENCODER | {"block": block}, {"type": "STTG"} | transfer, {"type": unet} | SMALL_UNET, outputs
    )


def images(n=2, h=16, w=24):
    return [torch.rand(n, 3, h, w) for _ in range(3)]


COMBINATIONS = list(itertools.product(UNETS, ("paper", "released"), ("fixed", "learned"), (1, 2)))


@pytest.mark.parametrize(("unet", "block", "selection", "outputs"), COMBINATIONS)
def test_every_parameter_gets_a_gradient(unet, block, selection, outputs):
    without = None
    for _ in range(4):  # a ReLU may be dead for one draw of the weights, not for all
        model = small(unet, block, outputs, selection=selection)
        up, reference, degraded = images()
        found = model(torch.randn(2, 3, 16, 24), torch.tensor([0, 7]), up, reference, degraded)
        assert len(found) == outputs
        assert all(image.shape == up.shape for image in found)
        sum((image * torch.randn_like(image)).sum() for image in found).backward()
        idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        without = idle if without is None else without & idle
    assert without == set()


def test_no_reference_gives_zero_textures_and_a_result():
    model = small()
    up, reference, degraded = images()
    assert all(not t.any() for t in model.encode(up, None, None))
    mixed = model.encode(up, reference, degraded, torch.tensor([True, False]))
    full = model.encode(up, reference, degraded)
    for some, every, none in zip(mixed, full, model.encode(up, None, None), strict=True):
        assert some.shape == none.shape
        assert torch.equal(some[0], every[0])
        assert not some[1].any()
    assert model(up, torch.tensor([3, 3]), up)[0].isfinite().all()


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


@pytest.mark.parametrize("size", [(16, 20), (12, 16)])
def test_a_size_that_does_not_halve_is_an_error(size):
    with pytest.raises(DataError, match=r"multiples of 8"):
        small().encode(torch.rand(1, 3, *size), None, None)


def test_other_numbers_of_levels():
    for multipliers in ([1, 2, 2], [1, 1, 2, 2, 2]):
        unet = {"type": "2Net", "width": 8, "multipliers": multipliers}
        model = TTRD3.from_options(SMALL_ENCODER, {"type": "STTG"}, unet, outputs=2)
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


def test_unknown_type_lists_the_known():
    with pytest.raises(ConfigError, match=r"model\.unet\.type: found '3Net', expected one of: 1Net-A, 1Net-B, 2Net"):
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
