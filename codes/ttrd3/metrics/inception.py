"""Features of the Inception network that FID and KID are defined by."""

import contextlib
import io
import sys

import numpy as np
import torch

from ttrd3.errors import UserError
from ttrd3.metrics.base import Extractor
from ttrd3.pretrained import SOURCES, described, load_state

SOURCE = SOURCES["inception"]


class Inception(Extractor):
    """TensorFlow's Inception-v3 of 2015 with TensorFlow's own resizing, both by torch-fidelity."""

    def __init__(
        self, layer: int, file: str | None, owner: str, *, device: torch.device | str = "cpu", download: bool = True
    ):
        """Build it.

        Args:
            layer: 64, 192, 768 or 2048: features after the first or second pooling, before the auxiliary classifier,
                or at the end (what FID means).
            file: torch-fidelity's weights; None takes the cache, then the network.
            owner: Whose `file` it is, for messages.
            device: Where it works.
            download: Whether missing weights may be downloaded.

        Raises:
            NotAvailableError: No weights can be had.
            UserError: `file` does not hold them.
        """
        state = load_state(SOURCE, file, owner, download=download)
        self.key = f"inception-{layer}-{file or 'published'}"
        self.weights = described(SOURCE, file)
        self.device = device
        self._network = _build(layer, state, file).to(device)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (layer,) float32."""
        pixels = torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1)[None]
        return self._network(pixels)[0][0].cpu().numpy()


def _build(layer: int, state: dict[str, torch.Tensor], file: str | None) -> torch.nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # here: only FID and KID

    # The package unpickles whatever file it is given; what it gets here was read as plain tensors and written anew.
    clean = io.BytesIO()
    torch.save(state, clean)
    clean.seek(0)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return FeatureExtractorInceptionV3("inception", [str(layer)], feature_extractor_weights_path=clean)
    except RuntimeError as error:
        raise UserError(
            f"{file or SOURCE.cached}: does not hold FID's Inception network with torch-fidelity's names "
            f"({str(error).splitlines()[0]}). Expected the file {SOURCE.file_name} from {SOURCE.url}."
        ) from None
