"""The fast copies compute what the plain networks do; a reference encoded once serves all tiles."""

import itertools

import pytest
import torch
from helpers import relative_error
from networks.small import small_encoder, small_transfer, small_unet

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.errors import DataError
from ttrd3.inference.restore import Restorer
from ttrd3.networks.fast import attention, prepare
from ttrd3.networks.fast.attention import FastAttention, FastLinearAttention
from ttrd3.networks.fast.convolutions import FastConv, FastUpsample
from ttrd3.networks.layers import Attention, LinearAttention, WeightStandardizedConv2d, upsample
from ttrd3.networks.model import TTRD3
from ttrd3.networks.variants import UNETS

FLOAT32 = 1e-5  # relative, after the whole network; measured 1e-6
CHANGE = {"S": 0.02}  # without normalisation, more of it makes images of zeros and ones alone
BFLOAT16 = 35  # dB, of restored images with random weights, which change much more than trained ones; measured 37 to 41


def model(unet="1Net-A", block="paper", outputs=2, multipliers=(1, 2, 2, 3), levels=3, **options):
    torch.manual_seed(1)
    encoder, unet_options = small_encoder(levels, block=block), small_unet(unet, 16, multipliers, **options)
    found = TTRD3.from_options(encoder, small_transfer(levels), unet_options, outputs).eval()
    with torch.no_grad():
        for parameter in found.parameters():  # so that gains are not 1 and biases not 0
            parameter += CHANGE.get(unet, 0.1) * torch.randn_like(parameter)
    return found


def images(n=1, h=32, w=48):
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(n, 3, h, w, generator=generator) for _ in range(3)]


def restored(network, n, strength, steps=3, objective="pred_res_noise", has_reference=None, eta=0.0):
    restorer = Restorer(network, DiffusionProcess(), OBJECTIVES[objective], steps, strength, eta, 5)
    return restorer(*images(n), has_reference, [str(number) for number in range(n)])


COMBINATIONS = [
    *itertools.product(UNETS, ("paper", "released"), (1, 2), (3,)),
    *itertools.product(("S",), ("paper",), (2,), (1, 2)),  # S takes textures of any sizes
]


@pytest.mark.parametrize(("unet", "block", "n", "levels"), COMBINATIONS)
def test_each_step_equals_the_plain_networks(unet, block, n, levels):
    plain = model(unet, block, levels=levels)
    fast = prepare(plain)
    up, reference, degraded = images(n)
    times = [999, 420, 3]
    with torch.inference_mode():
        textures = plain.encode(up, reference, degraded)
        for found, expected in zip(fast.encode(up, reference, degraded), textures, strict=True):
            assert relative_error(found, expected) < FLOAT32
        for given in (textures, [0.3 * texture for texture in textures], None):
            step, plain_step = (network.begin(2 * up - 1, given, times) for network in (fast, plain))
            for number, time in enumerate(times):
                x_t = torch.randn(up.shape)
                zeros = [torch.zeros_like(texture) for texture in textures]
                expected = plain.denoise(x_t, torch.full((n,), time), 2 * up - 1, given or zeros)
                for a, b, c in zip(step(x_t, number), plain_step(x_t, number), expected, strict=True):
                    assert relative_error(a, c) < FLOAT32
                    assert torch.equal(b, c)


@pytest.mark.parametrize("multipliers", [(1, 2, 2), (1, 1, 2, 2, 2)])
@pytest.mark.parametrize("unet", UNETS)
def test_other_numbers_of_levels(unet, multipliers):
    plain = model(unet, multipliers=multipliers)
    expected, found = restored(plain, 1, 1.0), restored(prepare(plain), 1, 1.0)
    assert relative_error(found, expected) < FLOAT32


@pytest.mark.parametrize("residual_blocks", [0, 2])
def test_blocks_of_each_output_too(residual_blocks):
    plain = model("S", levels=1, noise_blocks=2, residual_blocks=residual_blocks)
    expected, found = (restored(network, 2, 1.0, eta=0.5) for network in (plain, prepare(plain)))
    assert relative_error(found, expected) < FLOAT32


def test_a_noise_branch_that_is_told_the_fidelity():
    plain = model("S", levels=1, noise_blocks=2, told_fidelity=True)
    fast = prepare(plain)
    up, reference, degraded = images(2)
    times, each = [999, 420], torch.tensor([0.0, 0.7])
    with torch.inference_mode():
        textures = plain.encode(up, reference, degraded)
        for fidelity in (0.3, 1.0, each):
            steps = [network.begin(2 * up - 1, textures, times, fidelity) for network in (fast, plain)]
            told = torch.as_tensor(fidelity).expand(2)
            for number, time in enumerate(times):
                x_t = torch.randn(up.shape)
                expected = plain.denoise(x_t, torch.full((2,), time), 2 * up - 1, textures, told)
                for step in steps:
                    for a, b in zip(step(x_t, number), expected, strict=True):
                        assert relative_error(a, b) < FLOAT32


@pytest.mark.parametrize("count", [1, 4])
def test_fidelity_that_the_network_is_told_ends_with_the_residual_alone(count):
    plain = model("S", levels=1, noise_blocks=2, told_fidelity=True)
    with torch.no_grad():
        for parameter in plain.unet.noise.fidelity.parameters():
            parameter *= 20
    up, *_ = images(2)
    noise, process = torch.randn(up.shape), DiffusionProcess()
    found = {}
    for fidelity in (0.0, 0.5, 1.0):
        restorer = Restorer(
            prepare(plain), process, OBJECTIVES["pred_res_noise"], count, 1.0, 0.0, 5, fidelity=fidelity
        )
        found[fidelity] = restorer.sampled(up, None, lambda: noise)
    x_in = 2 * up - 1
    with torch.inference_mode():
        residual, _ = plain.begin(x_in, None, [999])(process.start(x_in, noise), 0)
    faithful = ((x_in - residual.clamp(-1, 1)).clamp(-1, 1) + 1) / 2
    assert relative_error(found[1.0], faithful) < FLOAT32
    assert relative_error(found[0.5], (found[0.0] + found[1.0]) / 2) > 100 * FLOAT32  # no line


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("unet", UNETS)
def test_restored_images_equal_those_of_the_plain_networks(unet, strength):
    plain = model(unet)
    has_reference = torch.tensor([True, False])
    expected = restored(plain, 2, strength, has_reference=has_reference, eta=0.5)
    found = restored(prepare(plain), 2, strength, has_reference=has_reference, eta=0.5)
    assert relative_error(found, expected) < FLOAT32
    single = model(unet, outputs=1)
    expected, found = (restored(network, 1, strength, objective="pred_res") for network in (single, prepare(single)))
    assert relative_error(found, expected) < FLOAT32


@pytest.mark.parametrize(("unet", "options"), [*((unet, {}) for unet in UNETS), ("S", {"noise_blocks": 2})])
def test_bfloat16_is_near(unet, options):
    plain = model(unet, **options)
    expected, found = restored(plain, 2, 1.0), restored(prepare(plain, torch.bfloat16), 2, 1.0)
    assert found.dtype == torch.float32
    assert -10 * (found - expected).square().mean().log10() > BFLOAT16


def test_the_copy_keeps_its_weights_and_leaves_the_model_as_it_was():
    plain = model()
    state = {name: value.clone() for name, value in plain.state_dict().items()}
    fast = prepare(plain)
    before = restored(fast, 1, 1.0)
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    assert all(parameter.requires_grad for parameter in plain.parameters())
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(2)
    assert torch.equal(restored(fast, 1, 1.0), before)


@pytest.mark.parametrize("network", [model(), prepare(model())], ids=["plain", "fast"])
def test_references_encoded_once_serve_all_tiles(network):
    up, reference, degraded = images(3)
    with torch.inference_mode():
        for count in (1, 2):
            shared, shared_degraded = reference[:count], degraded[:count]
            together = network.textures(up, network.encode_reference(shared, shared_degraded))
            for number in range(3):
                one = network.encode(up[number : number + 1], shared[None], shared_degraded[None])
                for found, expected in zip(together, one, strict=True):
                    assert relative_error(found[number : number + 1], expected) < FLOAT32


def test_features_of_several_references_belong_to_their_images():
    network = prepare(model())
    up, reference, degraded = images(4)
    with torch.inference_mode():
        features = network.encode_reference(reference, degraded)
        for count in (1, 2):  # references an image
            given = (image.unflatten(0, (-1, count)) if count > 1 else image for image in (reference, degraded))
            expected = network.encode(up[: 4 // count], *given)
            for found, wanted in zip(network.textures(up[: 4 // count], features, shared=False), expected, strict=True):
                assert relative_error(found, wanted) < FLOAT32


def test_the_copy_takes_no_single_steps():
    fast = prepare(model())
    up, _, _ = images()
    textures = fast.encode(up, None, None)
    for call in (lambda: fast(up, torch.tensor([3]), up), lambda: fast.denoise(up, torch.tensor([3]), up, textures)):
        with pytest.raises(TypeError, match="a FastModel samples only: call `begin`, or use the model that it was"):
            call()


def test_a_size_that_does_not_halve_is_an_error_without_a_reference_too():
    plain = model()
    for network in (plain, prepare(plain)):
        with pytest.raises(DataError, match="multiples of 8"):
            network.begin(torch.rand(1, 3, 20, 16), None, [0])


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, WeightStandardizedConv2d])
def test_constant_channels_are_added_once(kind):
    conv, x, constant = kind(7, 5, 3, padding=1), torch.randn(2, 4, 6, 6), torch.randn(2, 3, 6, 6)
    fast = FastConv(conv, torch.float32, constant=3)
    torch.testing.assert_close(fast.begin(constant)(x), conv(torch.cat([x, constant], dim=1)))
    torch.testing.assert_close(fast.begin(None)(x), conv(torch.cat([x, 0 * constant], dim=1)))


@pytest.mark.parametrize("size", [(1, 1), (5, 4)])
def test_upsampling_by_phases(size):
    plain, x = upsample(6, 3), torch.randn(2, 6, *size)
    torch.testing.assert_close(FastUpsample(plain, torch.float32)(x), plain(x))


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_linear_attention_in_chunks(monkeypatch, chunk):
    monkeypatch.setattr(attention, "CHUNK", chunk)
    plain, x = LinearAttention(8), torch.randn(2, 8, 3, 4)
    with torch.no_grad():
        plain.norm.gain.copy_(torch.randn(1, 8, 1, 1))
        plain.qkv.weight *= 50  # exp(k) would overflow without its peak
    torch.testing.assert_close(FastLinearAttention(plain, torch.float32)(x), plain(x), rtol=1e-4, atol=1e-5)


def test_full_attention():
    plain, x = Attention(8), torch.randn(2, 8, 3, 4)
    torch.testing.assert_close(FastAttention(plain, torch.float32)(x), plain(x), rtol=1e-4, atol=1e-5)
