"""Frozen ImageNet networks for perceptual terms: never trained, never saved with the model."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models

from ttrd3.errors import UserError
from ttrd3.paths import input_path


@dataclass(frozen=True)
class TrunkSource:
    """How a trunk is built and where its weights come from."""

    build: object
    layers: int  # of `features` that are kept
    url: str

    @property
    def file_name(self) -> str:
        """Name of the file that torchvision downloads."""
        return self.url.rsplit("/", 1)[1]


TRUNKS = {
    # features[28] is conv5_1; its ReLU is left out.
    "vgg19": TrunkSource(models.vgg19, 29, models.VGG19_Weights.IMAGENET1K_V1.url),
    "squeezenet": TrunkSource(models.squeezenet1_1, 13, models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url),
}


class Trunk(nn.Module):
    """ImageNet normalisation, then the first layers of a classification network, all frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        for layer in features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # what comes before is still needed for its gradient
        self.features = features
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> features (N, C, about H/16, W/16)."""
        return self.features((image - self.mean) / self.std)


def load_trunk(name: str, file: str | None = None) -> Trunk:
    """Build a trunk with weights from `file`, or from torchvision's download (kept in torch's cache).

    Raises:
        UserError: No file and no network, or a file that does not hold this network.
    """
    source = TRUNKS[name]
    state = _download(name, source) if file is None else _read(name, input_path(file))
    features = source.build(weights=None).features[: source.layers]
    state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    try:
        features.load_state_dict({key: state[key] for key in features.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{file}: does not hold {name} with torchvision's names ({str(error).splitlines()[0]}). "
            f"Expected the file {source.file_name} from {source.url}, or one like it."
        ) from None
    return Trunk(features)


def _read(name: str, path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. It was set as the weights of the perceptual trunk {name}; "
            f"get it from {TRUNKS[name].url}, or set the loss's `file` to null to download it."
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read as PyTorch weights of {name} ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict of {name}, but {type(state).__name__}")
    return state


def _download(name: str, source: TrunkSource) -> dict[str, Tensor]:
    try:
        return torch.hub.load_state_dict_from_url(source.url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / source.file_name
        raise UserError(
            f"the weights of the perceptual trunk {name} are not there and could not be downloaded ({error}). "
            f"Bring {source.url} to {cache}, set the loss's `file` to a local copy, or remove the perceptual loss."
        ) from None
