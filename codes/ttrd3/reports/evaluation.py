"""Measures folders of super-resolved images, whoever made them, as `val` measures its own."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ttrd3.data.degrade import up_from_lr
from ttrd3.data.folders import Match, match_folders, match_masks
from ttrd3.data.images import read_mask
from ttrd3.data.whole import read_whole_rgb
from ttrd3.errors import DataError
from ttrd3.metrics import METRICS, Measuring
from ttrd3.metrics.base import Described
from ttrd3.metrics.building import build_metric
from ttrd3.metrics.consistency import reduced
from ttrd3.metrics.psnr import decibels
from ttrd3.registry import schema_of
from ttrd3.reports.results import AGAINST, BASELINE, Results

ALWAYS = ("psnr", "ssim")  # the paper's protocol by their defaults
WITH_LR = ("consistency", "improvement", "omission", "hallucination")  # they depend on the scale, which LR tells
WITH_WEIGHTS = ("lpips", "dists", "fid", "kid")  # where their weights are: nothing is downloaded unasked


@dataclass(frozen=True)
class Evaluation:
    """What was found, and what its tables must say besides the metrics."""

    results: Results
    protocol: dict[str, Any]


def evaluate(
    folders: dict[str, Path],
    metrics: Sequence[dict[str, Any]] | None = None,
    *,
    masks: Path | None = None,
    device: torch.device | str = "cpu",
    subset: bool = False,
) -> Evaluation:
    """Measure every image of `folders["sr"]` against its truth.

    Args:
        folders: "sr" and "hr"; "lr", if given, adds bicubic beside it; "against", if given, is a second method, which
            differences and paired tests are then taken to instead of bicubic.
        metrics: Sections `type: NAME` with options; None takes the paper's protocol, what LR allows, and what needs
            weights if they are there.
        masks: Folder of masks as `ttrd3 prepare` writes them: where they are 0, nothing counts.
        device: Where the networks of metrics work.
        subset: Whether there may be HR images without SR, which are left out.

    Raises:
        DataError: Folders or images that do not fit or cannot be read; names them.
        ConfigError: A metric or option that does not exist.
    """
    matches, scale = match_folders(folders, subset=subset)
    built = default_metrics(scale, device) if metrics is None else chosen_metrics(metrics, scale, device)
    baseline = AGAINST if AGAINST in folders else BASELINE if "lr" in folders else None
    results, measure = Results(built, baseline), Measuring(built)
    masked = {} if masks is None else match_masks(masks, matches, subset=subset)
    agreement = []
    for match in tqdm(matches, desc="evaluating", unit="image", disable=not sys.stderr.isatty()):
        images = {role: read_whole_rgb(path, convert=True) for role, path in match.paths.items()}
        hr, lr = images.pop("hr"), images.pop("lr", None)
        if lr is not None:
            agreement.append(decibels(lr, reduced(hr, scale)))
            images[BASELINE] = up_from_lr(lr, scale)
        valid = read_mask(masked[match.name]) if match.name in masked else None
        _measure(results, measure, match, images, hr, valid)
    protocol: dict[str, Any] = {role: str(folder) for role, folder in folders.items()}
    if agreement:
        protocol |= {"scale": scale, "lr_to_bicubic_reduction_of_hr_db": round(float(np.mean(agreement)), 2)}
    if masks is not None:
        protocol |= {"mask": str(masks), "nodata": f"masked in {len(masked)} images ({measure.nodata})"}
    return Evaluation(results, protocol)


def default_metrics(scale: int | None, device: torch.device | str = "cpu") -> list[Described]:
    """The paper's protocol, what LR allows where its scale is known, and what needs weights that may be missing."""
    names = [*ALWAYS, *(WITH_LR if scale else ()), *WITH_WEIGHTS]
    return chosen_metrics([{"type": name} for name in names], scale, device, download=False)


def chosen_metrics(
    sections: Sequence[dict[str, Any]], scale: int | None, device: torch.device | str = "cpu", *, download: bool = True
) -> list[Described]:
    """The metrics of `sections`; an option `scale` that is not given is the scale of the images.

    Raises:
        ConfigError: A metric or option that does not exist.
    """
    built = []
    for section in sections:
        name = section.get("type")
        if scale and name in METRICS and "scale" in schema_of(METRICS[name], name).model_fields:
            section = {"scale": scale, **section}
        built.append(build_metric(section, f"--metrics {name}", device, download=download))
    return built


def _measure(
    results: Results,
    measure: Measuring,
    match: Match,
    images: dict[str, np.ndarray],
    hr: np.ndarray,
    valid: np.ndarray | None,
) -> None:
    for method, image in images.items():
        try:
            measured = measure(image, hr, valid)
        except DataError as error:
            raise DataError(f"{match.paths['hr']}: {error}") from None
        results.add(match.name, match.class_name, method, measured.values, features=measured.features)
