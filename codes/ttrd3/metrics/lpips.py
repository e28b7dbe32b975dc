"""Learned perceptual image patch similarity (LPIPS 0.1; Zhang et al., CVPR 2018, arXiv:1801.03924)."""

import warnings
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from torch import nn

from ttrd3.metrics.base import METRICS, Metric, as_in_truth, check_pair, require_size, to_tensor
from ttrd3.pretrained import SOURCES, NotAvailableError, described, fill, load_state

NETS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}
LEAST = 32  # pixels; AlexNet's pooling needs 31


@METRICS.register("lpips")
class Lpips(Metric):
    """LPIPS by the authors' package: 0 for identical images, lower is better.

    Its linear weights ship with the package; the ImageNet network beneath them is torchvision's.

    Options:
        net: `alex` (what papers mean by LPIPS unless they say otherwise), `vgg` or `squeeze`.
        file: Weights of that ImageNet network with torchvision's names; null takes torchvision's own, downloaded once.
    """

    unit = ""
    higher_is_better = False
    decimals = 4
    nodata = "SR taken from HR elsewhere"

    def __init__(
        self,
        net: Literal["alex", "vgg", "squeeze"] = "alex",
        file: str | None = None,
        *,
        device: torch.device | str = "cpu",
        download: bool = True,
    ):
        self.net = net
        self.device = device
        self.name = "lpips" if net == "alex" else f"lpips_{net}"
        source = SOURCES[NETS[net]]
        self._weights = source.file_name
        try:
            state = load_state(source, file, "metric", download=download)
        except NotAvailableError as error:
            self.unavailable = str(error)
            return
        self._weights = described(source, file)
        self._model = _build(net)
        trunk = self._model.net
        fill(
            trunk, {key: state[_published(key)] for key in trunk.state_dict() if _published(key) in state}, source, file
        )
        self._model.to(device)

    @torch.inference_mode()
    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """LPIPS of SR and HR, both (H, W, 3) uint8; SR as HR where it is not `valid` (H, W)."""
        check_pair(sr, hr)
        sr = as_in_truth(sr, hr, valid)
        require_size(hr, LEAST)
        return self._model(to_tensor(sr, self.device), to_tensor(hr, self.device), normalize=True).item()

    def protocol(self) -> dict[str, str | int]:
        """Package, network and weights."""
        return {"implementation": f"lpips {version('lpips')}", "net": self.net, "weights": self._weights}


def _build(net: str) -> nn.Module:
    import lpips  # here, because it brings scipy and more, which only this metric needs

    with warnings.catch_warnings():  # it calls torchvision in a way that has become old
        warnings.simplefilter("ignore", UserWarning)
        return lpips.LPIPS(net=net, pnet_rand=True, verbose=False)  # the random network is filled by the caller


def _published(key: str) -> str:
    """lpips' "slice2.3.weight" -> torchvision's "features.3.weight"."""
    return "features." + key.partition(".")[2]
