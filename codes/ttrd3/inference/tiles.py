"""Restores tiles of a scene: windows in, float images out, the same whatever the order, batch or process."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ttrd3.data.degrade import SCALE, degrade
from ttrd3.inference.enlarge import Scene, continued, enlarged
from ttrd3.inference.features import FeatureCache, stacked
from ttrd3.inference.grid import Grid
from ttrd3.inference.noise import noise_field
from ttrd3.inference.references import Excerpt, ReferenceSource, View
from ttrd3.inference.restore import Restorer
from ttrd3.inference.symmetries import symmetries, turned, turned_back, turned_excerpt
from ttrd3.networks.sttg import ReferenceFeatures

logger = logging.getLogger(__name__)

Put = Callable[[int, np.ndarray], None]

_DRAWS = 2**20  # fields of noise that one sample may use: more than there are steps


@dataclass
class Tiler:
    """What a tile's result depends on.

    Attributes:
        features: Of references, of this restorer; the result does not depend on what it keeps.
        samples: N; with more than one, a tile has six channels: their mean and their standard deviation.
        batch_size: Tiles restored at once.
    """

    restorer: Restorer
    scene: Scene
    grid: Grid
    references: ReferenceSource
    features: FeatureCache
    samples: int
    batch_size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every tile."""
        height, width = self.grid.tile_shape
        return (6 if self.samples > 1 else 3), SCALE * height, SCALE * width

    def run(self, numbers: Sequence[int], put: Put) -> None:
        """Restore tiles and hand each to `put` as float32 (C, H, W) in [0, 1]."""
        empty = [number for number in numbers if self.scene.is_empty(*self._window(number))]
        for number in empty:
            put(number, np.zeros(self.shape, np.float32))
        numbers = [number for number in numbers if number not in set(empty)]
        for begin in range(0, len(numbers), self.batch_size):
            part = numbers[begin : begin + self.batch_size]
            ups = [self._up(number) for number in part]
            references = [self._reference(number, up) for number, up in zip(part, ups, strict=True)]
            features = self._encoded(references)
            for rows in _of_one_shape(features):
                chosen = ([of_each[row] for row in rows] for of_each in (part, ups, references, features))
                found = self._restored(*chosen)
                for row, result in zip(rows, found, strict=True):
                    put(part[row], result)

    def _up(self, number: int) -> np.ndarray:
        top, left, height, width = self._window(number)
        up = enlarged(self.scene, top, left, height, width)
        return continued(up, *(SCALE * side for side in self.grid.tile_shape))

    def _window(self, number: int) -> tuple[int, int, int, int]:
        """(top, left, height, width) in LR pixels of what lies inside the image."""
        (top, left), (height, width) = self.grid.place(number), self.grid.tile_shape
        return top, left, min(height, self.scene.height), min(width, self.scene.width)

    def _reference(self, number: int, up: np.ndarray) -> Excerpt | None:
        if self.restorer.strength == 0:
            return None
        of = self.scene.height, self.scene.width
        return self.references.window(View(*self._window(number), of, np.rint(up * 255).astype(np.uint8)))

    def _encoded(self, references: list[Excerpt | None]) -> list[ReferenceFeatures | None]:
        return [None if reference is None else self.features.get(reference) for reference in references]

    @torch.inference_mode()
    def _restored(
        self,
        numbers: list[int],
        ups: list[np.ndarray],
        references: list[Excerpt | None],
        features: list[ReferenceFeatures | None],
    ) -> Iterator[np.ndarray]:
        up = torch.from_numpy(np.stack(ups)).permute(0, 3, 1, 2).contiguous().to(self.restorer.process.abar.device)
        images = {symmetry: turned(up, symmetry) for symmetry in symmetries(self.restorer.ensemble)}
        textures = {s: self._textures(image, references, features, s) for s, image in images.items()}
        total = torch.zeros_like(up, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for sample in range(self.samples):
            found = torch.zeros_like(total)
            for symmetry, image in images.items():
                noise = self._noise(numbers, up, sample, symmetry)
                found += turned_back(self.restorer.sampled(image, textures[symmetry], noise), symmetry)
            found.div_(len(images)).clamp_(0, 1)
            total += found
            squares += found.square()
        mean = total / self.samples
        if self.samples > 1:
            variance = (squares - total * mean) / (self.samples - 1)
            mean = torch.cat([mean, variance.clamp(min=0).sqrt()], dim=1)
        yield from mean.float().cpu().numpy()

    def _textures(
        self,
        image: Tensor,
        references: list[Excerpt | None],
        features: list[ReferenceFeatures | None],
        symmetry: int,
    ) -> list[Tensor] | None:
        """What references add to an `image` that is turned; `features` are those of the references as they are."""
        given = [reference for reference in references if reference is not None]
        if not given:
            return None
        if symmetry:
            features = self._encoded([turned_excerpt(reference, symmetry) for reference in given])
        return self.restorer.transferred(image, stacked(features))

    def _noise(self, numbers: list[int], up: Tensor, sample: int, symmetry: int) -> Callable[[], Tensor]:
        """The draws of one sample, each a window of a field of its own, turned as the tile is."""
        places = [tuple(SCALE * at for at in self.grid.place(number)) for number in numbers]
        drawn = 0

        def noise() -> Tensor:
            nonlocal drawn
            draw = sample * _DRAWS + drawn
            drawn += 1
            fields = [noise_field(self.restorer.seed, draw, *place, *up.shape[2:]) for place in places]
            return turned(torch.from_numpy(np.stack(fields)).to(up), symmetry)

        return noise


def make_features(restorer: Restorer, limit: int) -> FeatureCache:
    """What encodes references for a restorer, and keeps up to `limit` bytes of their features."""
    device = restorer.process.abar.device

    def encode(reference: np.ndarray) -> ReferenceFeatures:
        images = (reference, degrade(reference))
        whole, degraded = (
            torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).to(device).float() / 255 for image in images
        )
        return restorer.encoded(whole, degraded)

    return FeatureCache(encode, limit)


def _of_one_shape(references: list[ReferenceFeatures | None]) -> list[list[int]]:
    """Rows whose references can be stacked, in order of appearance; those without one stand alone."""
    groups: dict[torch.Size | None, list[int]] = {}
    for row, reference in enumerate(references):
        groups.setdefault(None if reference is None else reference.degraded.shape, []).append(row)
    return list(groups.values())
