"""Features of several depths of a frozen network, and distances of images in them (after LPIPS, arXiv:1801.03924)."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from ttrd3.errors import ConfigError, DataError
from ttrd3.losses.base import LOSSES, Step, Weight
from ttrd3.losses.trunks import Trunk, fill_features
from ttrd3.pretrained import SOURCES, NotAvailableError, Source, fill, load_state

TrunkName = Literal["vgg16", "vgg16_shift_tolerant", "squeezenet"]

# After the last ReLU of each of the five sizes of VGG16, and of four sizes of SqueezeNet.
TAPS = {"vgg16": (3, 8, 15, 22, 29), "vgg16_shift_tolerant": (3, 8, 15, 22, 29), "squeezenet": (1, 4, 7, 12)}
SHIFT_TOLERANT = Source("vgg16_shift_tolerant", "stlpips-pytorch==0.0.2/vgg_shift_tolerant.pth")
PACKAGE, INSIDE = "stlpips_pytorch", "weights/vST0.0/vgg_shift_tolerant.pth"
POOLS = (4, 9, 16, 23)  # of VGG16; the fifth is behind the last tap
CONVOLUTIONS = "net.slice"  # of the shift-tolerant file, followed by number of size and layer
LINEAR = "lin{}.model.1.weight"  # of the same file, by depth from 0: what LPIPS weighs the channels with
SMALLEST = 32  # side of an image: the last of the blurs reflects what is left of it


class Blur(nn.Module):
    """Max pooling that tolerates shifts: dense, then [1, 2, 1] x [1, 2, 1] / 16 of stride 2 (arXiv:1904.11486)."""

    kernel: Tensor

    def __init__(self, width: int):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16).repeat(width, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H / 2 + 1, W / 2 + 1)."""
        x = F.pad(F.max_pool2d(x, 2, stride=1), (2, 2, 2, 2), mode="reflect")
        return F.conv2d(x, self.kernel, stride=2, groups=x.shape[1])


class TappedTrunk(nn.Module):
    """ImageNet normalisation, then the first layers of a classification network; what several of them say.

    It computes in bfloat16 where the device multiplies that fast: the distances of features are no small differences.

    Attributes:
        key: Which network it is: of two with the same key the features are the same.
    """

    def __init__(self, trunk: Trunk, taps: Sequence[int], dtype: torch.dtype, key: str):
        super().__init__()
        self.trunk, self.taps, self.dtype, self.key = trunk, taps, dtype, key
        self.trunk.features.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [0, 1] -> features (N, C, h, w) of each tap, none of them negative.

        Raises:
            DataError: Images that are too small for the deepest of them.
        """
        if min(image.shape[2:]) < SMALLEST:
            raise DataError(
                f"losses: found images of {image.shape[3]} x {image.shape[2]} pixels, expected at least {SMALLEST} x "
                f"{SMALLEST} for what a frozen network says of them. Set data.train.crop to at least {SMALLEST}."
            )
        x = ((image - self.trunk.mean) / self.trunk.std).to(self.dtype, memory_format=torch.channels_last)
        features = []
        with torch.autocast(image.device.type, enabled=False):
            for number, layer in enumerate(self.trunk.features):
                x = layer(x)
                if number in self.taps:
                    features.append(x)
        return features


def load_tapped(name: TrunkName, file: str | None, device: torch.device) -> TappedTrunk:
    """The trunk `name`, frozen.

    Raises:
        UserError: No file and no network, or a file that does not hold this network.
    """
    taps = TAPS[name]
    if name == "vgg16_shift_tolerant":
        features = _shift_tolerant(file, taps[-1] + 1)
    else:
        features = (_vgg16() if name == "vgg16" else models.squeezenet1_1(weights=None).features)[: taps[-1] + 1]
        fill_features(features, SOURCES[name], file)
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return TappedTrunk(Trunk(features), taps, torch.bfloat16 if fast else torch.float32, f"{name} {file}").to(device)


def load_learned(name: TrunkName, file: str | None, device: torch.device) -> list[Tensor]:
    """LPIPS's weights of the channels at each depth of the trunk `name`, (C, 1, 1).

    Raises:
        UserError: A trunk that has none, or a file without them.
    """
    if name != "vgg16_shift_tolerant":
        raise ConfigError(
            f"losses: features: learned: found true with the trunk {name}, expected false: the file of "
            "vgg16_shift_tolerant alone has weights that people's judgements taught"
        )
    file, state = _shift_tolerant_file(file)
    widths = (64, 128, 256, 512, 512)
    layers = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
    renamed = {f"{n}.weight": state.get(LINEAR.format(n), torch.empty(0)) for n in range(len(widths))}
    fill(layers, renamed, SHIFT_TOLERANT, file)
    return [layer.weight[0].to(device) for layer in layers]


def _unit(feature: Tensor) -> Tensor:
    """(N, C, h, w) -> the same of unit length at each place."""
    return feature * (feature.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def _vgg16() -> nn.Sequential:
    """VGG16 without its classifier, which is most of it."""
    return models.vgg.make_layers(models.vgg.cfgs["D"], batch_norm=False)


def _shift_tolerant(file: str | None, layers: int) -> nn.Sequential:
    """VGG16 trained with blurred pooling (ST-LPIPS, arXiv:2207.13686), as the package stlpips-pytorch has it."""
    features = _vgg16()[:layers]
    for number in POOLS:
        features[number] = Blur(features[number - 2].out_channels)
    file, state = _shift_tolerant_file(file)
    stored = iter(_convolutions(state))
    renamed = {}
    for number, layer in enumerate(features):
        if isinstance(layer, nn.Conv2d):
            key = next(stored, "")
            renamed |= {f"{number}.{kind}": state.get(f"{key}.{kind}", torch.empty(0)) for kind in ("weight", "bias")}
    fill(features, renamed, SHIFT_TOLERANT, file)
    return features


def _shift_tolerant_file(file: str | None) -> tuple[str, dict[str, Tensor]]:
    """Where the weights are, `file` or in the installed package, and the file's content."""
    file = file or _installed()
    return file, load_state(SHIFT_TOLERANT, file, "loss")


def _convolutions(state: dict[str, Tensor]) -> Iterator[str]:
    """`net.slice1.0`, `net.slice1.2`, `net.slice2.6`, ... in the order of the layers."""
    names = {key.rpartition(".")[0] for key in state if key.startswith(CONVOLUTIONS) and key.endswith(".bias")}
    return iter(sorted(names, key=lambda name: int(name.rpartition(".")[2])))


def _installed() -> str:
    """The file in the installed package, which is not imported.

    Raises:
        NotAvailableError: There is no such package.
    """
    found = importlib.util.find_spec(PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        raise NotAvailableError(
            f"the weights of {SHIFT_TOLERANT.name} come with the package stlpips-pytorch, which is not installed. Run "
            "`pip install --no-deps stlpips-pytorch==0.0.2`, or set the loss's `file` to its "
            f"{SHIFT_TOLERANT.file_name}."
        )
    return str(Path(folders[0], INSIDE))


@LOSSES.register("features")
class FeatureDistance:
    """Squared distance of x_0 to HR in unit features at several depths of a frozen network, mean over the depths.

    That is LPIPS without its learned weights, or, `learned`, a depth's share of LPIPS. Without them features that
    people hardly see count as much as all others, and in flat places, where all are weak, grain pays.

    Options:
        trunk: `vgg16`, `squeezenet` (1.1), or `vgg16_shift_tolerant`, VGG16 with blurred pooling from the package
            stlpips-pytorch 0.0.2 (`pip install --no-deps stlpips-pytorch==0.0.2`).
        file: Its weights; null takes torchvision's own, downloaded once where there is a network, or the package's.
        learned: Weigh the features as people judged (LPIPS); the file of vgg16_shift_tolerant alone has these weights.
        weight: Factor of the term, or [[step, factor], ...]: what it is from each step on, and 0 before.
    """

    def __init__(
        self,
        trunk: TrunkName = "vgg16",
        file: str | None = None,
        learned: bool = False,
        weight: Weight = 1.0,
        *,
        device: torch.device | str = "cpu",
    ):
        self.weight = weight
        self.name = f"features_{trunk}"
        self.trunk = load_tapped(trunk, file, torch.device(device))
        self.learned = load_learned(trunk, file, torch.device(device)) if learned else None

    def __call__(self, step: Step) -> Tensor:
        """The unweighted term, a scalar."""
        pairs = zip(step.features(self.trunk, "x0"), step.features(self.trunk, "x0_target"), strict=True)
        squares = [(_unit(a) - _unit(b)).float().square() for a, b in pairs]
        if self.learned is not None:
            squares = [square * weights for square, weights in zip(squares, self.learned, strict=True)]
        return torch.stack([square.sum(1).mean() for square in squares]).mean()
