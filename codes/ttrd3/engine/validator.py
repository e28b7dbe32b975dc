"""Measures restored images beside bicubic, and leaves tables and pictures."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ttrd3.data.images import write_png
from ttrd3.data.triplets import TripletDataset
from ttrd3.engine.distributed import ALONE, World
from ttrd3.engine.loading import Batch, Failure, ValidationSamples, batches, image, to_device, validation_loader
from ttrd3.engine.logs import Progress
from ttrd3.errors import DataError
from ttrd3.files import PARTIAL, require_free_space, require_writable
from ttrd3.inference.restore import Restorer
from ttrd3.metrics import Measuring, Metric
from ttrd3.metrics.base import Described
from ttrd3.reports.panels import contact_sheet, panel
from ttrd3.reports.results import Results

logger = logging.getLogger(__name__)

BYTES_PER_PIXEL = 3  # of an image as PNG, generously
IMAGES_PER_PICTURE = 10  # so many images large is a side-by-side picture


@dataclass
class Validation:
    """What one validation found.

    Attributes:
        results: The metrics of every image.
        protocol: What a table must say besides its metrics.
        pictures: Side-by-side pictures by image name, uint8 (H, W, 3).
    """

    results: Results
    protocol: dict
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Share:
    """What one process found: arguments of `Results.add` and pictures, by the number of the image."""

    rows: dict[int, list[tuple]] = field(default_factory=dict)
    pictures: dict[int, tuple[str, np.ndarray]] = field(default_factory=dict)
    stopped: bool = False


@dataclass
class Validator:
    """Restores every image of a data set, with its reference and noise decided by the seed and its name.

    The processes of `world` share the images out; each gets the whole result, and the main one writes it.
    """

    dataset: TripletDataset
    metrics: list[Described]
    batch_size: int
    pictures: int
    save_images: bool
    seed: int
    device: torch.device
    world: World = ALONE

    def __post_init__(self) -> None:
        Results(self.metrics)  # refuses metrics that cannot stand in one table before hours are spent
        self.measure = Measuring(self.metrics)
        for name, reason in self.measure.unavailable.items():
            logger.warning("%s is not available: %s", name, reason)

    def run(
        self, restorer: Restorer, folder: Path, protocol: dict, stop: Callable[[], bool] = lambda: False
    ) -> Validation | None:
        """Validate and leave in `folder`, whole or not at all, what is needed to judge the result.

        That is `results.json`, `per_image.csv`, `results.md`, `pictures/*.png` with `overview.png`, and, if asked for,
        `images/CLASS/NAME.png`. `protocol` is what the tables say besides the metrics' own. When `stop` says so in any
        process, validation ends after the batch at hand, leaves nothing and returns None.
        """
        if self.dataset.masked:
            protocol |= {"nodata": f"masked in {self.dataset.masked} images ({self.measure.nodata})"}
        self.require_space(folder.parent)
        if self.world.main:
            require_writable(folder.parent, "output")
        process = self.world.gather(os.getpid())[0]  # the main one's: all write into one folder
        with _working_folder(folder.with_name(f".{folder.name}.{process}{PARTIAL}"), self.world.main) as partial:
            shares = self.world.gather(self._share(restorer, partial, stop))
            if any(share.stopped for share in shares):
                return None
            found = self._together(shares, protocol)
            if self.world.main:
                if found.pictures:
                    write_png(partial / "pictures" / "overview.png", contact_sheet(list(found.pictures.values())))
                found.results.write(partial, protocol)
                _take_place(partial, folder)
        return found

    def require_space(self, folder: Path) -> None:
        """Refuse where the disk of `folder` has no room for what a validation writes, all images as large as the first.

        Raises:
            UserError: Names the folder, the free and the needed space.
        """
        images = len(self.dataset) if self.save_images else 0
        images += IMAGES_PER_PICTURE * min(self.pictures, len(self.dataset))
        if images and self.world.main:
            first = ValidationSamples(self.dataset, seed=self.seed)[0]
            if not isinstance(first, Failure):  # which is told when the image has its turn
                height, width = first["hr"].shape[-2:]
                require_free_space(folder, images * height * width * BYTES_PER_PIXEL, "validation")

    def rehearse(self, restorer: Restorer) -> None:
        """Restore this process's first batch and forget it.

        Raises:
            UserError: Images or options that a validation could not work with.
        """
        _, loader = self._loader()
        if len(loader):
            self._restore(restorer, next(batches(loader)))

    def _share(self, restorer: Restorer, folder: Path, stop: Callable[[], bool]) -> Share:
        """Restore and measure this process's images; they and their pictures go into `folder`."""
        samples, loader = self._loader()
        chosen = set(np.linspace(0, len(samples) - 1, min(self.pictures, len(samples))).round().astype(int).tolist())
        share = Share()
        total = sum(map(len, loader.batch_sampler))
        with Progress("validation", total, "image", self.world.main) as progress:
            for numbers, batch in zip(loader.batch_sampler, batches(loader), strict=True):
                if stop():
                    share.stopped = True
                    break
                restored = _uint8(self._restore(restorer, batch))
                for row, number in enumerate(numbers):
                    self._one(share, number, batch, row, restored[row], folder, number in chosen)
                    progress.update()
        return share

    def _together(self, shares: list[Share], protocol: dict) -> Validation:
        found = Validation(Results(self.metrics), protocol)
        rows = {number: rows for share in shares for number, rows in share.rows.items()}
        for number in sorted(rows):
            for row in rows[number]:
                found.results.add(*row)
        pictures = {number: named for share in shares for number, named in share.pictures.items()}
        found.pictures = dict(pictures[number] for number in sorted(pictures))
        return found

    def _loader(self) -> tuple[ValidationSamples, DataLoader]:
        samples = ValidationSamples(self.dataset, seed=self.seed)
        return samples, validation_loader(samples, self.batch_size, self.device.type == "cuda", self.world)

    def _restore(self, restorer: Restorer, batch: Batch) -> Tensor:
        batch = to_device(batch, self.device)
        up = image(batch, "up")
        if not batch["has_reference"].any():  # the texture net has nothing to do
            return restorer(up, None, None, None, batch["name"])
        reference, degraded = image(batch, "reference"), image(batch, "degraded_reference")
        return restorer(up, reference, degraded, batch["has_reference"], batch["name"])

    def _one(self, share: Share, number: int, batch: Batch, row: int, sr: np.ndarray, folder: Path, draw: bool) -> None:
        name, class_name = batch["name"][row], batch["class_name"][row]
        hr, up, lr = (_pixels(batch[key][row]) for key in ("hr", "up", "lr"))
        valid = batch["valid"][row, 0].numpy() if "valid" in batch else None
        captions = {}
        share.rows[number] = []
        for method, result in (("bicubic", up), ("ttrd3", sr)):
            try:
                measured = self.measure(result, hr, valid)
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
            given = batch["reference_name"][row] or None
            share.rows[number].append((name, class_name, method, measured.values, given, measured.features))
            captions[method] = ", ".join(_caption(m, measured.values[m.name]) for m in self.measure.images[:2])
        if self.save_images:
            write_png(folder / "images" / f"{name}.png", sr)  # the name holds the class folder, where there is one
        if draw:
            best = batch["reference"][row].reshape(-1, *batch["hr"].shape[1:])[0]  # of several references
            reference = _pixels(best) if batch["has_reference"][row] else None
            columns = {"LR": lr, "bicubic": up, "TTRD3": sr, "reference": reference, "HR": hr}
            second = {"LR": name, "bicubic": captions["bicubic"], "TTRD3": captions["ttrd3"]}
            second["reference"] = batch["reference_name"][row]
            picture = panel(columns, second, zoom=True)
            share.pictures[number] = name, picture
            write_png(folder / "pictures" / f"{name.replace('/', '-')}.png", picture)


@contextmanager
def _working_folder(partial: Path, main: bool) -> Iterator[Path]:
    """A folder to work in, which vanishes with the main process's block unless `_take_place` moved it."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
    finally:
        if main and partial.exists():
            shutil.rmtree(partial)


def _take_place(partial: Path, folder: Path) -> None:
    """Move a finished folder to its name; what was there goes only then."""
    former = partial.with_name(f"{partial.name}.former")
    if folder.exists():
        folder.replace(former)
    partial.replace(folder)
    if former.exists():
        shutil.rmtree(former)


def _caption(metric: Metric, value: float) -> str:
    """ "psnr 27.31 dB"."""
    return f"{metric.name} {value:.{metric.decimals}f} {metric.unit}".strip()


def _pixels(tensor: Tensor) -> np.ndarray:
    """uint8 (3, H, W) -> (H, W, 3)."""
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())


def _uint8(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] -> uint8 (N, H, W, 3), rounded."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
