"""HR, LR and reference images as the networks want them: one sample for an index and a random generator."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ttrd3.data.augment import Window, apply_symmetry, draw_symmetry, draw_valid_window, draw_window, lr_window
from ttrd3.data.cache import Place, open_cache
from ttrd3.data.colours import match_moments
from ttrd3.data.degrade import degrade, up_from_lr
from ttrd3.data.descriptors import Descriptor, StatisticsDescriptor
from ttrd3.data.images import Reader, read_mask, read_rgb
from ttrd3.data.layout import Tile, find_tiles, has_split, require_scale
from ttrd3.data.pixels import CachedImages
from ttrd3.data.references import DrawnReferences
from ttrd3.data.retrieved import RetrievedReferences
from ttrd3.data.shares import Shares
from ttrd3.data.warped import warped as warp
from ttrd3.errors import ConfigError, DataError
from ttrd3.registry import PositiveInt, Probability

_LIMIT = 3  # keeps the draw of `limit` independent of the other draws of the same seed, see streams.py


class TripletDataset:
    """HR, LR, up, reference and degraded reference of the tiles of a prepared folder.

    Options:
        root: Folder that `ttrd3 prepare` made, or one in the layout that the authors published.
        split: Which part of it: train, val, test or ref.
        reference: same_class draws an image of the same scene class, random of any (a control), paired takes the one
            that belongs to the image, retrieved those of an indexed library that look most like its LR; none: without.
        reference_split: Where same_class and random references come from; auto takes ref where the folder has it, else
            train.
        index: Index of the library that retrieved references come from, made by `ttrd3 index`.
        top: Among how many of the most alike retrieved references is drawn anew each time; 1 always takes the best.
        references: How many retrieved references an image has at once (top counts at least as many); the texture net
            takes from each what fits best.
        match_colours: moments gives the reference, in each channel, the mean and standard deviation of the enlarged LR.
        retrieved: Share of samples that take a retrieved reference (`index`, `top`) instead of that of `reference`.
        warped: Share of samples whose reference is the image itself, warped, recoloured and partly replaced, as if of
            another date, instead of that of `reference`: something to find, for training only, and never of an image
            with pixels without data.
        reference_dropout: Share of samples whose reference is left out, so that the model learns to do without.
        augmentation: Flips and rotations by 90 degrees. joint turns the reference like the image, separate turns it
            on its own, none turns nothing.
        crop: Side in HR pixels, a multiple of 4, of random windows; null takes whole tiles.
        limit: Use only this many tiles, drawn by the seed; null uses all.
    """

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "test", "ref"],
        reference: Literal["same_class", "random", "paired", "retrieved", "none"] = "same_class",
        reference_split: Literal["auto", "train", "ref"] = "auto",
        index: str | None = None,
        top: PositiveInt = 1,
        references: PositiveInt = 1,
        match_colours: Literal["none", "moments"] = "none",
        retrieved: Probability = 0.0,
        warped: Probability = 0.0,
        reference_dropout: Probability = 0.0,
        augmentation: Literal["separate", "joint", "none"] = "none",
        crop: Annotated[int, Field(ge=4, multiple_of=4)] | None = None,
        limit: PositiveInt | None = None,
        *,
        seed: int,
        descriptor: Descriptor | None = None,
    ):
        self.root = Path(root)
        self.split = split
        self.reference = reference
        self.references = references
        self.match_colours = match_colours
        self.shares = Shares(retrieved, warped)
        self.reference_dropout = reference_dropout
        self.augmentation = augmentation
        self.crop = crop
        used = {split: find_tiles(self.root, split)}
        self.tiles = _limited(used[split], limit, seed)
        self.classes = sorted({tile.class_name for tile in self.tiles})
        self.masked = sum(tile.mask is not None for tile in self.tiles)
        if references > 1 and reference not in ("retrieved", "none"):
            raise ConfigError(
                f"references: found {references} with reference: {reference}, expected 1: only retrieved "
                "references can be several. Set reference: retrieved, or references: 1."
            )
        self.shares.require(reference, references, split)
        if reference == "paired":
            self._require_paired()
        elif reference in ("same_class", "random"):
            origin = _reference_split(self.root, reference_split)
            used[origin] = find_tiles(self.root, origin, need_lr=False)
            whole = [tile for tile in used[origin] if tile.mask is None]  # what is filled is no texture to learn from
            self.pool = DrawnReferences(whole, origin=f"{self.root}/{origin}", any_class=reference == "random")
            self.pool.require_for(self.tiles)
        if reference == "retrieved" or retrieved:
            self.retrieved = _retrieved(index, self.tiles, descriptor, top, references)
        self._used = used
        self._read: Reader = read_rgb

    def __len__(self) -> int:
        return len(self.tiles)

    def use_cache(self, folder: Path) -> None:
        """From now on take images decoded from `folder`, which keeps whole splits; made there if it is not yet.

        The samples are the same. Where the folder cannot be written, images are decoded as before.

        Raises:
            DataError: An image of the splits in use is damaged; names the file.
        """
        self._read = _cached(folder, self.root, self._used)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The tile `index` with everything random about it drawn from `rng`.

        Returns:
            hr, up, reference, degraded_reference: uint8 (3, H, W); the last two zero without a reference, and
                (R, 3, H, W), best first, where `references` R is more than 1.
            lr: uint8 (3, H/4, W/4).
            valid: bool (1, H, W), where HR and LR are free of pixels without data; only where any tile of the data
                set has a mask (`masked` counts them).
            has_reference: bool. name, class_name, reference_name ("" without a reference): str.

        Raises:
            DataError: An image is damaged, of a wrong kind or size; names the file.
        """
        tile = self.tiles[index]
        hr, lr = self._read(tile.hr), self._read(tile.lr)
        require_scale(tile.hr, hr.shape[1::-1], tile.lr, lr.shape[1::-1])
        kept = rng.random() >= self.reference_dropout  # drawn in every mode: the windows below do not depend on it
        has_reference = self.reference != "none" and kept
        valid = None if tile.mask is None else _mask(tile, hr.shape)
        try:
            if valid is None:
                window = draw_window(rng, hr.shape, self.crop)
            else:
                window = draw_valid_window(rng, valid, self.crop)
        except DataError as error:
            raise DataError(f"{tile.hr}: {error}") from None
        symmetry = 0 if self.augmentation == "none" else draw_symmetry(rng, hr[window].shape)

        small = apply_symmetry(lr[lr_window(window)], symmetry)
        large = apply_symmetry(hr[window], symmetry)
        up = up_from_lr(small)
        references = degraded = [np.zeros_like(large)] * self.references
        reference_name = ""
        if has_reference:
            mode = self.shares.draw(self.reference, rng)
            if mode == "warped" and valid is not None:
                mode = self.reference  # what is filled is no texture to learn from
            wholes, reference_name = self._draw_references(index, mode, hr, rng)
            references = [self._cut_reference(whole, mode, window, symmetry, rng) for whole in wholes]
            if mode == "warped":
                references = [apply_symmetry(warp(hr, window, references[0], rng), symmetry)]
                reference_name = f"{tile.name}, warped"
            if self.match_colours == "moments":
                references = [match_moments(reference, up) for reference in references]
            degraded = [degrade(reference) for reference in references]
        masks = {}
        if self.masked:
            cut = np.ones(hr.shape[:2], dtype=bool)[window] if valid is None else valid[window]
            masks["valid"] = torch.from_numpy(apply_symmetry(cut, symmetry).copy())[None]  # (1, H, W)
        return masks | {
            "hr": _tensor(large),
            "lr": _tensor(small),
            "up": _tensor(up),
            "reference": _stacked(references),
            "degraded_reference": _stacked(degraded),
            "has_reference": has_reference,
            "name": tile.name,
            "class_name": tile.class_name,
            "reference_name": reference_name,
        }

    def _draw_references(
        self, index: int, mode: str, hr: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], str]:
        """Whole references, as many as `references`, and what they are called; for `warped` what replaces a part."""
        tile = self.tiles[index]
        if mode == "paired":
            drawn = [(tile.reference, self._read(tile.reference), tile.name)]
        elif mode == "retrieved" or (mode == "warped" and self.reference == "retrieved"):
            drawn = self.retrieved.draw(index, self.references, rng)
        else:
            other, image = self.pool.draw(tile, rng, self._read)
            drawn = [(other.hr, image, other.name)]
        for path, image, _ in drawn:
            if image.shape != hr.shape:
                raise DataError(
                    f"{path}: a reference of {image.shape[1]} x {image.shape[0]} pixels for {tile.hr} of "
                    f"{hr.shape[1]} x {hr.shape[0]}; expected the same size. Prepare the data with one --tile size."
                )
        return [image for _, image, _ in drawn], " + ".join(name for _, _, name in drawn)

    def _cut_reference(
        self, whole: np.ndarray, mode: str, window: Window, symmetry: int, rng: np.random.Generator
    ) -> np.ndarray:
        if mode != "paired":  # another place: no window of it belongs to that of the image
            window = draw_window(rng, whole.shape, self.crop)
        cut = whole[window]
        if mode == "warped":  # it is turned with the image that it becomes a part of
            return cut
        if self.augmentation == "separate":
            symmetry = draw_symmetry(rng, cut.shape)
        return apply_symmetry(cut, symmetry)

    def _require_paired(self) -> None:
        if any(tile.reference is None for tile in self.tiles):
            raise DataError(
                f"{self.root}/{self.split}: reference: paired needs {self.root}/{self.split}/ref, which is not there. "
                "Prepare paired hr/ and ref/ folders (`ttrd3 prepare --paired`), or set reference: same_class."
            )


def _retrieved(
    index: str | None, tiles: list[Tile], descriptor: Descriptor | None, top: int, references: int
) -> RetrievedReferences:
    if index is None:
        raise ConfigError(
            "index: found nothing, but reference: retrieved needs the index of a library, and so does a share "
            "`retrieved` of samples. Make one by `ttrd3 index --library DIR --out FILE` and set index to FILE, or set "
            "reference: same_class and retrieved: 0."
        )
    descriptor = descriptor or StatisticsDescriptor()
    return RetrievedReferences(Path(index), tiles, descriptor, top=max(top, references), least=references)


def _mask(tile: Tile, shape: tuple[int, ...]) -> np.ndarray:
    valid = read_mask(tile.mask)
    if valid.shape != shape[:2]:
        raise DataError(
            f"{tile.mask}: found {valid.shape[1]} x {valid.shape[0]} pixels, expected the {shape[1]} x {shape[0]} of "
            f"{tile.hr}. Prepare the data again with --overwrite."
        )
    return valid


def _reference_split(root: Path, asked: str) -> str:
    if asked != "auto":
        return asked
    return "ref" if has_split(root, "ref") else "train"


def _cached(folder: Path, root: Path, used: dict[str, list[Tile]]) -> CachedImages:
    caches = []
    for split, tiles in used.items():
        # Always the whole split: trainings with other limits and references share it. One tile's files lie together.
        files = [path for tile in tiles for path in (tile.hr, tile.lr, tile.reference) if path is not None]
        caches.append(open_cache(Place(folder, root, split), files))
    return CachedImages([cache for cache in caches if cache is not None])


def _limited(tiles: list[Tile], limit: int | None, seed: int) -> list[Tile]:
    if limit is None or limit >= len(tiles):
        return tiles
    # Drawn, not the first ones: those would all be of the first class.
    chosen = np.random.default_rng([seed, _LIMIT]).permutation(len(tiles))[:limit]
    return [tiles[index] for index in sorted(chosen)]


def _stacked(images: list[np.ndarray]) -> Tensor:
    """One image: (3, H, W); several: (R, 3, H, W)."""
    tensors = [_tensor(image) for image in images]
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors)


def _tensor(image: np.ndarray) -> Tensor:
    # A copy of its own: torch takes neither Pillow's read-only pixels nor the steps of a turned 1 x 1 image.
    return torch.from_numpy(image.transpose(2, 0, 1).copy(order="C"))  # (H, W, 3) -> (3, H, W)
