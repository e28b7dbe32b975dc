"""`Upscaler`: x4 super-resolution of arrays, PIL images, tensors and files with trained weights."""

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttrd3.diffusion.objectives import require_residual
from ttrd3.errors import DataError, UserError, is_out_of_memory
from ttrd3.inference.assemble import Assembler
from ttrd3.inference.device import find_device, require_device
from ttrd3.inference.enlarge import Scene
from ttrd3.inference.grid import make_grid
from ttrd3.inference.kinds import ImageLike, to_pixels
from ttrd3.inference.pictures import ArrayScene
from ttrd3.inference.precision import PrecisionName, exact_float32, require_precision
from ttrd3.inference.references import NoReference, PictureReference, ReferenceSource
from ttrd3.inference.restore import Restorer
from ttrd3.inference.retrieval import Library, is_index
from ttrd3.inference.store import MemoryTiles
from ttrd3.inference.tiles import Tiler, make_features
from ttrd3.inference.trained import Trained, read_trained
from ttrd3.inference.weights import SHIPPED
from ttrd3.networks.fast import prepare
from ttrd3.networks.model import TTRD3

logger = logging.getLogger(__name__)

Reference = ImageLike | Library | None
SMALLEST_TILE = 64


@dataclass(frozen=True)
class Settings:
    """How images are enlarged; lengths in pixels of the result.

    Attributes:
        steps: Sampling steps K; None: as the weights' options say.
        strength: Factor of the reference's textures: 0 ignores it, 1 takes it as trained; None: as the weights'
            options say.
        fidelity: 0 (most realistic: sampled as trained) to 1 (most faithful: the residual alone), see `Restorer`; None:
            as the weights' options say.
        eta: 0 (deterministic given the start noise) to 1 (ancestral); None: as the weights' options say.
        ensemble: Take the mean of the results of all eight flips and rotations, in eight times the time; None: as the
            weights' options say.
        seed: Of the noise field.
        tile: Side of the tiles that large images are cut into.
        overlap: Of neighbouring tiles, blended by ramps; at most a third of the tile.
        precision: Of the networks.
        consistent: Project the result so that its bicubic reduction is the LR image.
        batch_size: Tiles at once; None: 1 on a CPU, 8 on a GPU.
        feature_memory: Bytes of encoded references that are kept for other tiles and images; no result depends on it.
    """

    steps: int | None = None
    strength: float | None = None
    fidelity: float | None = None
    eta: float | None = None
    ensemble: bool | None = None
    seed: int = 10
    tile: int = 256
    overlap: int = 32
    precision: PrecisionName = "float32"
    consistent: bool = False
    batch_size: int | None = None
    feature_memory: int = 256 * 2**20


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of several samples.

    Attributes:
        mean: Of the same kind as the LR image.
        std: float32 array (4 h, 4 w, 3), for 8-bit images in 8-bit levels, else in the values' own unit.
    """

    mean: Any
    std: np.ndarray


class Upscaler:
    """Trained weights, ready to enlarge images by four.

    >>> upscaler = Upscaler.from_file(fidelity=0.5)  # the weights that come with ttrd3; or a file
    >>> image = upscaler.upscale("lr.png", reference="sharp.png")
    """

    def __init__(self, trained: Trained, device: torch.device, settings: Settings):
        """Use `from_file`.

        Raises:
            UserError: A setting that is out of range, or that the weights or the device cannot do.
        """
        self.trained, self.device, self.settings = trained, device, settings
        self.multiple = trained.model.size_multiple
        _check(settings, trained, self.multiple)
        require_precision(settings.precision, device, "precision")
        exact_float32()
        given = trained.steps if settings.steps is None else settings.steps
        strength = trained.strength if settings.strength is None else settings.strength
        eta = trained.eta if settings.eta is None else settings.eta
        fidelity = trained.fidelity if settings.fidelity is None else settings.fidelity
        model, process = trained.model.to(device), trained.process.to(device)
        network, precision = _for_sampling(model, settings.precision)
        self.restorer = Restorer(
            network,
            process,
            trained.objective,
            given,
            strength,
            eta,
            settings.seed,
            precision,
            fidelity,
            trained.ensemble if settings.ensemble is None else settings.ensemble,
        )
        self.features = make_features(self.restorer, settings.feature_memory)
        self.batch_size = settings.batch_size or (8 if device.type == "cuda" else 1)

    @classmethod
    def from_file(
        cls, weights: str | PathLike = SHIPPED, device: str | torch.device = "auto", **settings: Any
    ) -> "Upscaler":
        """Weights that training or `ttrd3 import-released` wrote, on a device, with `Settings` by name.

        Without a file: TTRD3-S, which comes with the code.

        Raises:
            CheckpointError: The file is missing, damaged or foreign.
            DeviceError: The device is not there, or cannot compute in this precision.
            UserError: A setting that is out of range.
        """
        where = find_device(device) if isinstance(device, str) else device
        require_device(where)
        return cls(read_trained(Path(weights)), where, Settings(**settings))

    def library(self, index: str | PathLike) -> Library:
        """A library of similar scenes, by the index that `ttrd3 index` made: opened once, for any number of images.

        Raises:
            DataError: An index that is missing, damaged or out of date.
        """
        return Library.open(Path(index), self.device)

    def upscale(self, lr: ImageLike, reference: Reference = None) -> Any:
        """Enlarge an image by four.

        Args:
            lr: uint8 (h, w, 3) array; float array (h, w, 3) with black at 0 and white at 1; PIL image; float tensor
                (3, h, w) or (N, 3, h, w) in 0..1; or the path of an image file, of any size.
            reference: A sharp image of a similar place, any of these kinds; or an index or a `library`, of which each
                tile takes what looks most like it; or None.

        Returns:
            The same kind, four times as high and wide; for a path a PIL image.

        Raises:
            DataError: An image that cannot be used.
        """
        reference = self._opened(reference)
        return _each(lr, lambda image: self._upscaled(image, reference, 1)[0])

    def upscale_with_spread(self, lr: ImageLike, reference: Reference = None, samples: int = 8) -> Spread:
        """The mean of several samples, and where they differ: detail that is guessed. `lr` is one image."""
        if samples < 2:
            raise UserError(f"samples: found {samples}, expected at least 2.")
        return Spread(*self._upscaled(lr, self._opened(reference), samples))

    def tiler(self, scene: Scene, references: ReferenceSource, samples: int, tile: int, batch_size: int) -> Tiler:
        """What restores the tiles of a scene."""
        grid = make_grid(scene.height, scene.width, tile, min(self.settings.overlap, tile // 3), self.multiple)
        return Tiler(self.restorer, scene, grid, references, self.features, samples, batch_size)

    def smaller(self, tile: int, batch_size: int, error: Exception) -> tuple[int, int]:
        """The next tile and batch size to try after memory ran out; says so.

        Raises:
            Exception: `error`, if it is another one, or nothing smaller is left.
        """
        if not is_out_of_memory(error) or (batch_size == 1 and tile // 2 < max(SMALLEST_TILE, 2 * self.multiple)):
            raise error
        if batch_size > 1:
            batch_size //= 2
        else:
            tile = tile // 2 // self.multiple * self.multiple
        self.features.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning("out of memory: tries again with tiles of %d x %d pixels, %d at once", tile, tile, batch_size)
        return tile, batch_size

    def _opened(self, reference: Reference) -> ReferenceSource | Library:
        """What gives references to whatever image."""
        if reference is None or self.restorer.strength == 0:
            return NoReference()
        if isinstance(reference, Library):
            return reference
        if isinstance(reference, str | PathLike):
            path = Path(reference)
            if is_index(path):
                return self.library(path)
            if path.is_dir():
                raise DataError(
                    f"reference: {path} is a folder. Give one of its images, or make an index of it by `ttrd3 index "
                    f"--library {path} --out FILE` and give FILE."
                )
        return PictureReference(ArrayScene(to_pixels(reference, "reference")[0]), "reference", self.multiple)

    def _upscaled(self, lr: ImageLike, given: ReferenceSource | Library, samples: int) -> tuple[Any, np.ndarray | None]:
        pixels, back = to_pixels(lr, "lr")
        scene = ArrayScene(pixels)
        references = given
        if isinstance(given, Library):
            references = given.references(Path(lr) if isinstance(lr, str | PathLike) else None, self.multiple)
        tile, batch_size = self.settings.tile, self.batch_size
        while True:
            tiler, store = self.tiler(scene, references, samples, tile, batch_size), MemoryTiles()
            try:
                tiler.run(range(len(tiler.grid)), store.put)
                break
            except (RuntimeError, MemoryError) as error:
                tile, batch_size = self.smaller(tile, batch_size, error)
        limits = (0.0, 1.0) if pixels.dtype == np.uint8 else (-np.inf, np.inf)
        assembler = Assembler(scene, tiler.grid, store, self.settings.consistent, limits)
        unit = 255 if pixels.dtype == np.uint8 else 1
        return back(assembler), assembler.whole_spread() * unit if samples > 1 else None


def _for_sampling(model: TTRD3, precision: PrecisionName) -> tuple[TTRD3, PrecisionName]:
    """The network to sample with, and what is left of the precision for autocast to do."""
    if precision == "bfloat16":
        return prepare(model, torch.bfloat16), "float32"
    if precision == "float16":  # the fast copy knows float32 and bfloat16
        return model, precision
    return prepare(model), precision


def _check(settings: Settings, trained: Trained, multiple: int) -> None:
    longest = trained.process.timesteps
    if settings.steps is not None and not 1 <= settings.steps <= longest:
        raise UserError(f"steps: found {settings.steps}, expected 1 to {longest}, as {trained.path} was trained.")
    for name in ("strength", "fidelity", "eta"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name}: found {value}, expected 0 to 1.")
    require_residual(trained.objective_name, settings.fidelity or 0, "fidelity", f" of {trained.path}")
    if not 0 <= settings.seed < 2**63:
        raise UserError(f"seed: found {settings.seed}, expected 0 to 2^63 - 1.")
    if settings.tile < SMALLEST_TILE or settings.tile % multiple:
        raise UserError(f"tile: found {settings.tile}, expected a multiple of {multiple}, at least {SMALLEST_TILE}.")
    if not 0 <= settings.overlap <= settings.tile // 3 or settings.overlap % 4:
        raise UserError(
            f"overlap: found {settings.overlap}, expected a multiple of 4 from 0 to a third of the tile "
            f"({settings.tile // 3})."
        )
    if settings.batch_size is not None and settings.batch_size < 1:
        raise UserError(f"batch_size: found {settings.batch_size}, expected at least 1.")
    if settings.feature_memory < 0:
        raise UserError(f"feature_memory: found {settings.feature_memory}, expected at least 0.")


def _each(lr: ImageLike, upscaled) -> Any:
    """A batch of tensors image by image; anything else as it is."""
    if isinstance(lr, Tensor) and lr.ndim == 4:
        return torch.stack([upscaled(image) for image in lr])
    return upscaled(lr)
