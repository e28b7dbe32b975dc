"""Deep image structure and texture similarity (DISTS; Ding et al., IEEE TPAMI 44(5), 2022, arXiv:2004.07728).

The authors' package cannot take VGG16's weights from a file and looks for its own weights in the wrong folder, so that
the network stands here and only its learned weights come from there.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from ttrd3.metrics.base import METRICS, Metric, as_in_truth, check_pair, require_size, to_tensor
from ttrd3.pretrained import SOURCES, NotAvailableError, described, fill, load_state

STAGES = (4, 9, 16, 23, 30)  # VGG16's layers up to relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
CHANNELS = (3, 64, 128, 256, 512, 512)  # of the image itself and of each stage
STABLE = 1e-6  # c1 and c2 of equations 6 and 7
LEAST = 32  # pixels; four poolings leave 2


@METRICS.register("dists")
class Dists(Metric):
    """DISTS at full size: 0 for identical images, lower is better; tolerant of texture that is alike but displaced.

    Options:
        file: Weights of VGG16 with torchvision's names; null takes torchvision's own, downloaded once.
    """

    name = "dists"
    unit = ""
    higher_is_better = False
    decimals = 4
    nodata = "SR taken from HR elsewhere"

    def __init__(self, file: str | None = None, *, device: torch.device | str = "cpu", download: bool = True):
        self.device = device
        source = SOURCES["vgg16"]
        self._weights = source.file_name
        try:
            state = load_state(source, file, "metric", download=download)
        except NotAvailableError as error:
            self.unavailable = str(error)
            return
        self._weights = described(source, file)
        features = models.vgg16(weights=None).features[: STAGES[-1]]
        state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
        fill(features, state, source, file)
        self._network = DistsNetwork(features, *_learned_weights()).to(device)

    @torch.inference_mode()
    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """DISTS of SR and HR, both (H, W, 3) uint8; SR as HR where it is not `valid` (H, W)."""
        check_pair(sr, hr)
        sr = as_in_truth(sr, hr, valid)
        require_size(hr, LEAST)
        return self._network(to_tensor(sr, self.device), to_tensor(hr, self.device)).item()

    def protocol(self) -> dict[str, str | int]:
        """Whose weights, and that images are not resized, as the authors' own script does above 256 pixels."""
        return {"learned_weights": "DISTS-pytorch 0.1", "net": "vgg16", "weights": self._weights, "resizing": "none"}


class DistsNetwork(nn.Module):
    """Equation 8: one less the weighted similarities of means and of covariances of every channel."""

    mean: Tensor
    std: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, features: nn.Sequential, alpha: Tensor, beta: Tensor):
        """`features` are VGG16's up to relu5_3; alpha and beta (1, 1475, 1, 1) weigh means and covariances."""
        super().__init__()
        self.stages = nn.ModuleList()
        for start, end in zip((0, *STAGES), STAGES, strict=False):
            layers = [layer for layer in features[start:end] if not isinstance(layer, nn.MaxPool2d)]
            self.stages.append(nn.Sequential(*layers))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] twice -> (N,)."""
        similarity = torch.zeros(len(x), device=x.device)
        alphas, betas = (weights.split(CHANNELS, dim=1) for weights in (self.alpha, self.beta))
        for a, b, alpha, beta in zip(self._maps(x), self._maps(y), alphas, betas, strict=True):
            mean_a, mean_b = (maps.mean((2, 3), keepdim=True) for maps in (a, b))  # (N, C, 1, 1)
            variance_a, variance_b = (
                (maps - mean).square().mean((2, 3), keepdim=True) for maps, mean in ((a, mean_a), (b, mean_b))
            )
            covariance = (a * b).mean((2, 3), keepdim=True) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + STABLE) / (mean_a**2 + mean_b**2 + STABLE)
            structure = (2 * covariance + STABLE) / (variance_a + variance_b + STABLE)
            similarity = similarity + (alpha * texture + beta * structure).sum((1, 2, 3))
        return 1 - similarity

    def _maps(self, image: Tensor) -> list[Tensor]:
        """The image itself and its maps after each stage."""
        maps = [image]
        current = (image - self.mean) / self.std
        for number, stage in enumerate(self.stages):
            current = stage(current if number == 0 else _l2_pool(current))
            maps.append(current)
        return maps


def _l2_pool(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H/2, W/2): root of the squares under a Hann window, instead of VGG16's maximum."""
    line = torch.hann_window(5, periodic=False, device=maps.device)[1:-1]
    window = torch.outer(line, line)
    window = (window / window.sum()).expand(maps.shape[1], 1, 3, 3)
    return (F.conv2d(maps.square(), window, stride=2, padding=1, groups=maps.shape[1]) + 1e-12).sqrt()


def _learned_weights() -> tuple[Tensor, Tensor]:
    import DISTS_pytorch  # here: only this metric needs it

    weights = torch.load(Path(DISTS_pytorch.__file__).with_name("weights.pt"), map_location="cpu", weights_only=True)
    return weights["alpha"].detach(), weights["beta"].detach()
