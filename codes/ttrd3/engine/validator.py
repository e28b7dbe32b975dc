"""Measures restored images beside bicubic, and leaves tables and pictures."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ttrd3.data.images import write_png
from ttrd3.data.triplets import TripletDataset
from ttrd3.engine.loading import ValidationSamples, batches, image, validation_loader
from ttrd3.engine.restore import Restorer
from ttrd3.files import PARTIAL, require_free_space, require_writable
from ttrd3.metrics.base import Metric
from ttrd3.reports.panels import contact_sheet, panel
from ttrd3.reports.results import Results

logger = logging.getLogger(__name__)

BYTES_PER_PIXEL = 6  # of PNGs: an RGB image and its share of pictures, generously


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
class Validator:
    """Restores every image of a data set, with its reference and noise decided by the seed and its name."""

    dataset: TripletDataset
    metrics: list[Metric]
    batch_size: int
    pictures: int
    save_images: bool
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        Results(self.metrics)  # refuses metrics that cannot stand in one table before hours are spent

    def run(
        self, restorer: Restorer, folder: Path, protocol: dict, stop: Callable[[], bool] = lambda: False
    ) -> Validation | None:
        """Validate and leave in `folder`, whole or not at all, what is needed to judge the result.

        That is `results.json`, `per_image.csv`, `results.md`, `pictures/*.png` with `overview.png`, and, if asked for,
        `images/CLASS/NAME.png`. `protocol` is what the tables say besides the metrics' own. When `stop` says so,
        validation ends after the batch at hand, leaves nothing and returns None.
        """
        samples, loader = self._loader()
        chosen = set(np.linspace(0, len(samples) - 1, min(self.pictures, len(samples))).round().astype(int).tolist())
        require_free_space(folder.parent, len(samples) * 256 * 256 * BYTES_PER_PIXEL, "validation")
        require_writable(folder.parent, "output")
        found = Validation(Results(self.metrics), protocol)
        number = 0
        bar = tqdm(total=len(samples), desc="validation", unit="image", disable=not sys.stderr.isatty())
        with _working_folder(folder) as partial, bar:
            for batch in batches(loader):
                if stop():
                    return None
                restored = _uint8(self._restore(restorer, batch))
                for row in range(len(restored)):
                    self._one(found, batch, row, restored[row], partial, number in chosen)
                    number += 1
                    bar.update()
            if found.pictures:
                write_png(partial / "pictures" / "overview.png", contact_sheet(list(found.pictures.values())))
            found.results.write(partial, protocol)
            _take_place(partial, folder)
        return found

    def rehearse(self, restorer: Restorer) -> None:
        """Restore the first batch and forget it.

        Raises:
            UserError: Images or options that a validation could not work with.
        """
        self._restore(restorer, next(batches(self._loader()[1])))

    def _loader(self) -> tuple[ValidationSamples, DataLoader]:
        samples = ValidationSamples(self.dataset, seed=self.seed)
        return samples, validation_loader(samples, self.batch_size, pin=self.device.type == "cuda")

    def _restore(self, restorer: Restorer, batch: dict) -> Tensor:
        up = image(batch, "up", self.device)
        if not batch["has_reference"].any():  # the texture net has nothing to do
            return restorer(up, None, None, None, batch["name"])
        reference, degraded = (image(batch, key, self.device) for key in ("reference", "degraded_reference"))
        return restorer(up, reference, degraded, batch["has_reference"].to(self.device), batch["name"])

    def _one(self, found: Validation, batch: dict, row: int, sr: np.ndarray, folder: Path, draw: bool) -> None:
        name, class_name = batch["name"][row], batch["class_name"][row]
        hr, up, lr = (_pixels(batch[key][row]) for key in ("hr", "up", "lr"))
        captions = {}
        for method, result in (("bicubic", up), ("ttrd3", sr)):
            values = {metric.name: metric(result, hr) for metric in self.metrics}
            found.results.add(name, class_name, method, values, batch["reference_name"][row] or None)
            captions[method] = ", ".join(_caption(metric, values[metric.name]) for metric in self.metrics[:2])
        if self.save_images:
            write_png(folder / "images" / f"{name}.png", sr)  # the name holds the class folder, where there is one
        if draw:
            best = batch["reference"][row].reshape(-1, *batch["hr"].shape[1:])[0]  # of several references
            reference = _pixels(best) if batch["has_reference"][row] else None
            columns = {"LR": lr, "bicubic": up, "TTRD3": sr, "reference": reference, "HR": hr}
            second = {"LR": name, "bicubic": captions["bicubic"], "TTRD3": captions["ttrd3"]}
            second["reference"] = batch["reference_name"][row]
            found.pictures[name] = panel(columns, second, zoom=True)
            write_png(folder / "pictures" / f"{name.replace('/', '-')}.png", found.pictures[name])


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to work in, which vanishes unless `_take_place` moved it."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    try:
        partial.mkdir(parents=True)
        yield partial
    finally:
        if partial.exists():
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
