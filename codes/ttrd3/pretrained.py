"""Weights of frozen helper networks: from a local file, or torch's cache, or downloaded into it once."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision import models

from ttrd3.errors import UserError
from ttrd3.files import sha256
from ttrd3.paths import input_path


class NotAvailableError(UserError):
    """Weights that nobody gave, that are not in torch's cache and that could not be (or were not to be) downloaded."""


@dataclass(frozen=True)
class Source:
    """What a network is called, and where its published weights come from."""

    name: str
    url: str

    @property
    def file_name(self) -> str:
        """Name of the file that is downloaded; it ends in the first digits of its SHA-256."""
        return self.url.rsplit("/", 1)[1]

    @property
    def cached(self) -> Path:
        """Where torch keeps the download."""
        return Path(torch.hub.get_dir(), "checkpoints", self.file_name)


SOURCES = {
    source.name: source
    for source in (
        Source("vgg19", models.VGG19_Weights.IMAGENET1K_V1.url),
        Source("squeezenet", models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url),
        Source("alexnet", models.AlexNet_Weights.IMAGENET1K_V1.url),
        Source("vgg16", models.VGG16_Weights.IMAGENET1K_V1.url),
        # TensorFlow's network of 2015 that FID is defined by, as torch-fidelity converted it.
        Source(
            "inception",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth",
        ),
    )
}


def load_state(source: Source, file: str | None, owner: str, *, download: bool = True) -> dict[str, Tensor]:
    """The state dict in `file`, or else the published one.

    Args:
        source: The network.
        file: A local file with the published names; None takes the cache, then the network.
        owner: Whose option `file` is ("loss", "metric"), for the messages.
        download: Whether what is not in the cache may be downloaded.

    Raises:
        NotAvailableError: No `file` was given, and the published weights cannot be had.
        UserError: `file` is missing, damaged or holds something else; names the file.
    """
    if file is not None:
        return _read(source, input_path(file), owner)
    if not download and not source.cached.is_file():
        raise NotAvailableError(
            f"the weights of {source.name} are not at {source.cached}. Ask for the {owner} by name to have "
            f"{source.url} downloaded there, or set its `file` to a local copy."
        )
    return _download(source, owner)


def fill(module: torch.nn.Module, state: dict[str, Tensor], source: Source, file: str | None) -> None:
    """Load `state`, which may hold more than `module` has, and freeze the module.

    Raises:
        UserError: Something that `module` needs is missing or has another shape.
    """
    try:
        module.load_state_dict({key: state[key] for key in module.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{file or source.cached}: does not hold {source.name} with the published names "
            f"({str(error).splitlines()[0]}). Expected the file {source.file_name} from {source.url}, or one like it."
        ) from None
    module.requires_grad_(False)
    module.eval()


def described(source: Source, file: str | None) -> str:
    """What a table says of the weights: the published ones, or which file else, by the start of its SHA-256."""
    if file is None:
        return source.file_name
    path = input_path(file)
    digest = sha256(path)
    published = digest.startswith(Path(source.file_name).stem.rpartition("-")[2])
    return source.file_name if published else f"{path.name}, SHA-256 {digest[:8]}"


def _read(source: Source, path: Path, owner: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. It was set as the weights of {source.name} for the {owner}; "
            f"get it from {source.url}, or set `file` to null for the published ones."
        ) from None
    except Exception as error:  # torch's reader follows whatever bytes it finds, so that any error may come of them
        raise UserError(
            f"{path}: cannot be read as PyTorch weights of {source.name} ({_first_line(error)}). "
            f"Fetch it again from {source.url}."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{path}: holds no state dict of {source.name}, but {type(state).__name__}. "
            f"Expected the file {source.file_name} from {source.url}, or one like it."
        )
    return state


def _download(source: Source, owner: str) -> dict[str, Tensor]:
    try:
        return torch.hub.load_state_dict_from_url(source.url, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # of the network, of the disk, or as in _read
        if source.cached.is_file():
            what = f"the weights of {source.name} at {source.cached} are damaged ({_first_line(error)}). "
            raise NotAvailableError(f"{what}Delete that file and bring {source.url} there.") from None
        raise NotAvailableError(
            f"the weights of {source.name} are not there and could not be downloaded ({_first_line(error)}). "
            f"Bring {source.url} to {source.cached}, or set the {owner}'s `file` to a local copy."
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
