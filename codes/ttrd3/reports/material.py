"""Finds again what a validation worked on: HR, LR and reference from the data set, SR from the validation folder."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttrd3.data.descriptors import Descriptor
from ttrd3.data.images import read_rgb
from ttrd3.data.streams import ValidationView
from ttrd3.data.triplets import TripletDataset
from ttrd3.errors import DataError
from ttrd3.metrics.psnr import decibels
from ttrd3.paths import input_path
from ttrd3.registry import schema_of
from ttrd3.reports.results import BASELINE
from ttrd3.reports.runs import PROTOCOL_OF_TABLES, RESULTS, Key, Run, find_validation

SAME_DB = 1e-3  # what PSNR may differ between machines; another picture differs far more
ABOUT_RETRIEVED = {"index", "top", "retrieved", "match_colours"}  # mean nothing where there are no references

Describe = Callable[[Path], Descriptor]  # index file -> the descriptor that it was made with


@dataclass(frozen=True)
class Pictures:
    """What belongs to one image of a validation, uint8 (H, W, 3); LR is (H/4, W/4, 3)."""

    lr: np.ndarray
    up: np.ndarray
    sr: np.ndarray
    hr: np.ndarray
    reference: np.ndarray | None
    without_reference: np.ndarray | None


class Material:
    """The pictures of a validation, drawn from its data set exactly as validation drew them.

    Args:
        run: The validation.
        data: Where its data root lies now; None: where it lay then.
        describe: Gives the descriptor of the index that references were retrieved from; None knows only that which
            needs no weights.

    Raises:
        DataError: The data, the index or the restored images are not there.
    """

    def __init__(self, run: Run, data: Path | None = None, describe: Describe | None = None):
        self.run = run
        self.root = input_path(str(run.protocol.get("data", ""))) if data is None else data
        if not self.root.is_dir() or not str(run.protocol.get("data", "")):
            raise DataError(
                f"{run.folder}: its data, {self.root}, is not there, and a report reads HR, LR and references from it. "
                "Bring it back, or say where it is by --data DIR."
            )
        if not (run.folder / "images").is_dir():
            raise DataError(
                f"{run.folder}: there are no restored images in it. Validate again with val.save_images=true."
            )
        options, seed, descriptor = _options(run), run.protocol.get("seed", 0), None
        if (options.get("reference") == "retrieved" or options.get("retrieved")) and "index" in options:
            index = input_path(options["index"])
            options["index"] = str(index)
            descriptor = None if describe is None else describe(index)
        dataset = TripletDataset(str(self.root), **options, seed=seed, descriptor=descriptor)
        self._view = ValidationView(dataset, seed=seed)
        self._index = {(tile.class_name, tile.name): index for index, tile in enumerate(dataset.tiles)}
        self.twin = without_reference(run.folder, run.protocol)

    def __getitem__(self, key: Key) -> Pictures:
        """The pictures of one image.

        Raises:
            DataError: An image is missing or is not the one that was validated.
        """
        if key not in self._index:
            raise self._changed(f"{key[1]} is not in it")
        sample = self._view[self._index[key]]
        if sample["reference_name"] != self.run.entries[key].reference:
            was = self.run.entries[key].reference or "none"
            raise self._changed(f"the reference of {key[1]} was {was}, now it is {sample['reference_name'] or 'none'}")
        best = sample["reference"].reshape(-1, *sample["hr"].shape)[0]  # of several references
        hr, lr, up, reference = (
            np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            for image in (sample["hr"], sample["lr"], sample["up"], best)
        )
        self._check(key, up, hr, sample["valid"][0].numpy() if "valid" in sample else np.s_[:])
        return Pictures(
            lr=lr,
            up=up,
            sr=_restored(self.run.folder, key, hr.shape),
            hr=hr,
            reference=reference if sample["has_reference"] else None,
            without_reference=None if self.twin is None else _restored(self.twin, key, hr.shape),
        )

    def _check(self, key: Key, up: np.ndarray, hr: np.ndarray, counts: np.ndarray | slice) -> None:
        """Refuse pictures whose bicubic, in the pixels that count, does not reach the PSNR that validation wrote."""
        measure = self.run.measures.get("psnr")
        written = self.run.entries[key].values.get(BASELINE, {}).get("psnr")
        if measure is None or written is None:
            return
        found = decibels(up[counts], hr[counts])
        if abs(found - written) > SAME_DB:
            raise self._changed(f"bicubic of {key[1]} had {written:.3f} dB, now it has {found:.3f} dB")

    def _changed(self, what: str) -> DataError:
        return DataError(
            f"{self.run.folder}: the data in {self.root} is no longer what was validated: {what}. "
            "Validate again, or say by --data DIR where the former data is."
        )


def drawing(run: Run) -> dict:
    """All that decides which pictures, and which references, a validation drew."""
    kept = {name: value for name, value in _options(run).items() if name != "limit"}
    return kept | {name: run.protocol.get(name) for name in ("data", "seed")}


def _options(run: Run) -> dict[str, Any]:
    """The options of the data set in a protocol, besides its root."""
    names = schema_of(TripletDataset).model_fields.keys() - {"root"}
    return {name: value for name, value in run.protocol.items() if name in names}


def without_reference(folder: Path, protocol: dict[str, Any]) -> Path | None:
    """The validation beside `folder` that differs in having no references, where there is one with its images.

    Its name, up to the words that say which reference was taken, tells that the weights are the same; its protocol
    that all else is.
    """
    if protocol.get("reference") in (None, "none"):
        return None
    stem = _stem(folder.name, protocol)
    for other, found in _neighbours(folder):
        if (
            found.get("reference") == "none"
            and _stem(other.name, found) == stem
            and (other / "images").is_dir()
            and _same_without_reference(found, protocol)
        ):
            return other
    return None


def with_reference(path: Path) -> Path:
    """The validation that `path` means: if the newest of a run has no references, the one that it is the twin of.

    A second validation without references is made to see what they change, so the first is the one to look at.

    Raises:
        DataError: There is none.
    """
    newest = find_validation(path)
    if newest == path:
        return path
    twins = [folder for folder, protocol in _neighbours(newest) if without_reference(folder, protocol) == newest]
    shown = [folder for folder in twins if (folder / "images").is_dir()]
    return max(shown, key=lambda folder: (folder / RESULTS).stat().st_mtime_ns, default=newest)


def _neighbours(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The validations in the same run, `folder` too, and their protocols; those that cannot be read are none."""
    for path in sorted(folder.parent.glob(f"*/{RESULTS}")):
        try:
            protocol = json.loads(path.read_text(encoding="utf-8"))["protocol"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(protocol, dict):
            yield path.parent, protocol


def _same_without_reference(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two protocols agree in all that does not say which references are taken, and how."""
    names = {name for name in {**a, **b} if "reference" not in name} - {*PROTOCOL_OF_TABLES, *ABOUT_RETRIEVED}
    return all(_setting(a, name) == _setting(b, name) for name in names)


def _setting(protocol: dict[str, Any], name: str) -> Any:
    """A value of a protocol; one that is missing is the data set's default, or else off, as is 0 or false: None.

    Missing is what is None, behaviour that is the weights' own, and what no version knew yet when it was written.
    """
    field = schema_of(TripletDataset).model_fields.get(name)
    return protocol.get(name, None if field is None else field.get_default()) or None


def _stem(name: str, protocol: dict) -> str:
    """ "step-00001000" of "step-00001000-val-none-1steps-seed10": weights and step, without a folder of data."""
    stem = name.partition(f"-{protocol.get('split')}-{protocol.get('reference')}-")[0]
    return stem.removesuffix(f"-{Path(protocol.get('data') or '').name}")


def _restored(folder: Path, key: Key, shape: tuple[int, ...]) -> np.ndarray:
    path = folder / "images" / f"{key[1]}.png"
    image = read_rgb(path)
    if image.shape != shape:
        raise DataError(
            f"{path}: found {image.shape[1]} x {image.shape[0]} pixels, expected {shape[1]} x {shape[0]} as of its HR. "
            "Validate again."
        )
    return image
