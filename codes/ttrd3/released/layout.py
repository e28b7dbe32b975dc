"""Every key and shape of the authors' networks, written from the specification's sections 2 to 4 and 6.

The released code runs at one width only, so that these are constants. Shapes are as in a state dict.
"""

from collections.abc import Iterator
from typing import Literal

Shape = tuple[int, ...]
Layout = dict[str, Shape]
Entries = Iterator[tuple[str, Shape]]
Variant = Literal["1Net-A", "1Net-B", "2Net"]

TIMESTEPS = 1000
WIDTHS = (64, 128, 256, 512)  # of the UNet, full resolution first
TEXTURE_WIDTHS = (64, 128, 256)
HIDDEN = 16  # h of the MFABs
LARGEST_K = 5
POSITION_SIZES = (256, 128, 64)  # of the position codes' grids at levels 1, 2, 3
REDUCTION = 16
TIME = 4 * WIDTHS[0]
HEADS = 4 * 32

# The released name of each schedule buffer -> ours in `DiffusionProcess`.
SCHEDULES = {
    "alphas": "alpha",
    "alphas_cumsum": "abar",
    "one_minus_alphas_cumsum": "one_minus_abar",
    "betas2": "beta2",
    "betas": "beta",
    "betas2_cumsum": "beta2bar",
    "betas_cumsum": "bbar",
    "posterior_mean_coef1": "posterior_c1",
    "posterior_mean_coef2": "posterior_c2",
    "posterior_mean_coef3": "posterior_c3",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance",
}
# VGG19 up to conv5_1: torchvision's number of each convolution -> its channels.
VGG19 = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512, 21: 512, 23: 512, 25: 512, 28: 512}


def diffusion_layout(variant: Variant) -> Layout:
    """The diffusion wrapper (`model`, `ema.*`): schedule buffers, the UNet under `model.`, VGG19."""
    wrapper: Layout = dict.fromkeys(SCHEDULES, (TIMESTEPS,))
    wrapper |= {f"model.{key}": shape for key, shape in _unet(variant)}
    wrapper |= {f"vgg19.{key}": shape for key, shape in _vgg19()}
    return wrapper


def texture_net_layout() -> Layout:
    """The texture net (`refnet`, `ema_ref.*`): encoder `MFAM.*` and `STTG.*`."""
    return dict(_texture_net())


def _unet(variant: Variant) -> Entries:
    if variant == "2Net":
        for net in ("unet0.", "unet1."):
            yield from _trunk(net)
            yield from _guided_decoder(net)
            yield from _head(net, "", outputs=1)
        return
    yield from _trunk("")
    yield from _decoder("ups")
    if variant == "1Net-A":
        yield from _head("", "", outputs=2)
    else:
        yield from _decoder("ups_no_skip")
        yield from _head("", "_1", outputs=1)
        yield from _head("", "_2", outputs=1)
        yield from (("TransNet." + key, shape) for key, shape in _texture_net())


def _trunk(net: str) -> Entries:
    yield from _conv(f"{net}init_conv", 6, WIDTHS[0], 7)
    yield from _linear(f"{net}time_mlp.1", WIDTHS[0], TIME)
    yield from _linear(f"{net}time_mlp.3", TIME, TIME)
    for level, width in enumerate(WIDTHS):
        yield from _resnet_block(f"{net}downs.{level}.0", width, width)
        yield from _resnet_block(f"{net}downs.{level}.1", width, width)
        yield from _linear_attention(f"{net}downs.{level}.2", width)
        if level + 1 < len(WIDTHS):
            yield from _conv(f"{net}downs.{level}.3", width, WIDTHS[level + 1], 4)
        else:
            yield from _conv(f"{net}downs.{level}.3", width, width, 3)
    for block in ("mid_block1", "mid_block2"):
        yield from _resnet_block(f"{net}{block}", WIDTHS[-1], WIDTHS[-1])
    yield from _attention(f"{net}mid_attn", WIDTHS[-1])


def _decoder(name: str) -> Entries:
    """Levels from the deepest; textures enter all but the first."""
    for level, width in enumerate(reversed(WIDTHS)):
        at = f"{name}.{level}"
        yield from _resnet_block(f"{at}.0", (2 if level == 0 else 3) * width, width)
        yield from _resnet_block(f"{at}.1", 2 * width, width)
        yield from _linear_attention(f"{at}.2", width)
        yield from _up(f"{at}.3", width)


def _guided_decoder(net: str) -> Entries:
    """2Net: the deepest level has names of its own, the others are GuidedBlocks."""
    deepest, *others = reversed(WIDTHS)
    for block in ("up_block1", "up_block2"):
        yield from _resnet_block(f"{net}{block}", 2 * deepest, deepest)
    yield from _linear_attention(f"{net}up_attn", deepest)
    yield from _up(f"{net}upsample", deepest)
    for level, width in enumerate(others):
        for block in (0, 1):
            yield from _resnet_block(f"{net}ups.{level}.{block}", 2 * width, width, texture=width)
        yield from _linear_attention(f"{net}ups.{level}.2", width)
        yield from _up(f"{net}ups.{level}.3", width)


def _head(net: str, number: str, outputs: int) -> Entries:
    yield from _resnet_block(f"{net}final_res_block{number}", 2 * WIDTHS[0], WIDTHS[0])
    yield from _conv(f"{net}final_conv{number}", WIDTHS[0], 3 * outputs, 1)


def _resnet_block(name: str, width_in: int, width: int, texture: int = 0) -> Entries:
    yield from _linear(f"{name}.mlp.1", TIME, 2 * width)
    for block, channels in (("block1", width_in), ("block2", width + texture)):
        yield from _conv(f"{name}.{block}.proj", channels, width, 3)
        yield f"{name}.{block}.norm.weight", (width,)
        yield f"{name}.{block}.norm.bias", (width,)
    if width_in != width:
        yield from _conv(f"{name}.res_conv", width_in, width, 1)


def _attention(name: str, width: int, out: str = "to_out") -> Entries:
    yield f"{name}.fn.norm.g", (1, width, 1, 1)
    yield f"{name}.fn.fn.to_qkv.weight", (3 * HEADS, width, 1, 1)
    yield from _conv(f"{name}.fn.fn.{out}", HEADS, width, 1)


def _linear_attention(name: str, width: int) -> Entries:
    yield from _attention(name, width, "to_out.0")
    yield f"{name}.fn.fn.to_out.1.g", (1, width, 1, 1)


def _up(name: str, width: int) -> Entries:
    if width == WIDTHS[0]:
        yield from _conv(name, width, width, 3)
    else:
        yield from _conv(f"{name}.1", width, width // 2, 3)


def _texture_net() -> Entries:
    yield from _conv("MFAM.first_conv", 3, TEXTURE_WIDTHS[0], 3)
    for level, width in enumerate(TEXTURE_WIDTHS):
        for block in (0, 1):
            yield from _mfab(f"MFAM.down.{level}.{block}", width)
    yield from _conv("MFAM.down.0.2.0", TEXTURE_WIDTHS[0], TEXTURE_WIDTHS[1], 3)
    yield from _conv("MFAM.down.1.2.0", TEXTURE_WIDTHS[1], TEXTURE_WIDTHS[2], 3)
    yield from _conv("MFAM.down.2.2", TEXTURE_WIDTHS[2], TEXTURE_WIDTHS[2], 3)
    yield "STTG.global_weight", ()
    yield "STTG.k_selector.k_logits", (len(TEXTURE_WIDTHS), LARGEST_K)
    yield "STTG.k_selector.temperature", ()
    for level, (width, size) in enumerate(zip(TEXTURE_WIDTHS, POSITION_SIZES, strict=True), start=1):
        yield from _linear(f"STTG.se_lv{level}.fc.0", width, width // REDUCTION)
        yield from _linear(f"STTG.se_lv{level}.fc.2", width // REDUCTION, width)
        yield f"STTG.ref_pos_lv{level}.grid", (2, size, size)
        yield from _conv(f"STTG.ref_pos_lv{level}.pos_conv", 2, width, 3)


def _mfab(name: str, width: int) -> Entries:
    inner, outer = 3 * HIDDEN, 9 * HIDDEN
    yield f"{name}.project_in.weight", (inner, width, 1, 1)
    yield f"{name}.project_out.weight", (width, outer, 1, 1)
    for k in (3, 5, 7):
        yield f"{name}.dwconv{k}x{k}.weight", (inner, 1, k, k)
        yield f"{name}.dwconv{k}x{k}_1.weight", (HIDDEN, 3, k, k)
    yield f"{name}.attn.mlp.0.weight", (outer // REDUCTION, outer, 1, 1)
    yield f"{name}.attn.mlp.2.weight", (outer, outer // REDUCTION, 1, 1)
    yield f"{name}.attn.conv.weight", (1, 2, 7, 7)


def _vgg19() -> Entries:
    width_in = 3
    for number, width in VGG19.items():
        yield from _conv(f"slice1.{number}", width_in, width, 3)
        width_in = width
    yield from _conv("sub_mean", 3, 3, 1)


def _conv(name: str, width_in: int, width: int, k: int) -> Entries:
    yield f"{name}.weight", (width, width_in, k, k)
    yield f"{name}.bias", (width,)


def _linear(name: str, width_in: int, width: int) -> Entries:
    yield f"{name}.weight", (width, width_in)
    yield f"{name}.bias", (width,)
