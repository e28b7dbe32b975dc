"""Draws references: of the same scene class or any, never the image itself nor a duplicate of it."""

from pathlib import Path

import numpy as np

from ttrd3.data.hashes import Fingerprint, are_duplicates, fingerprint
from ttrd3.data.images import Reader
from ttrd3.data.layout import Tile
from ttrd3.errors import DataError


class DrawnReferences:
    """The pool of references by class, and the rules for who may serve whom.

    Args:
        tiles: Those that may serve.
        origin: Where they come from, for messages.
        any_class: Draw from all of them instead of from the image's own class: a control, which tells how much of what
            a reference brings is due to its being similar.
    """

    def __init__(self, tiles: list[Tile], *, origin: str, any_class: bool = False):
        self.origin = origin
        self.any_class = any_class
        self.by_class: dict[str, list[Tile]] = {}
        for tile in tiles:
            self.by_class.setdefault(self._class(tile), []).append(tile)
        self._fingerprints: dict[Path, Fingerprint] = {}

    def require_for(self, tiles: list[Tile]) -> None:
        """Refuse tiles that cannot have a reference, as far as stored names and hashes tell.

        Raises:
            DataError: Names the classes.
        """
        alone = {
            tile.class_name
            for tile in tiles
            if not any(self._known_usable(other, tile) for other in self.by_class.get(self._class(tile), ()))
        }
        if alone:
            raise self._nothing_for(sorted(alone))

    def draw(self, tile: Tile, rng: np.random.Generator, read: Reader) -> tuple[Tile, np.ndarray]:
        """A usable reference for `tile`, all usable ones equally likely, and its image uint8 (H, W, 3) from `read`.

        Raises:
            DataError: Every image of the class is the tile itself or a duplicate of it.
        """
        pool = self.by_class.get(self._class(tile), [])
        for index in rng.permutation(len(pool)):
            other = pool[index]
            if self._known_usable(other, tile):
                image = read(other.hr)
                if not are_duplicates(self._fingerprint(other, read, image), self._fingerprint(tile, read)):
                    return other, image
        raise self._nothing_for([tile.class_name])

    def _class(self, tile: Tile) -> str:
        return "" if self.any_class else tile.class_name

    @staticmethod
    def _known_usable(other: Tile, tile: Tile) -> bool:
        """Whether nothing known without reading an image speaks against `other` as the reference of `tile`."""
        if other.hr == tile.hr or other.overlaps(tile):
            return False
        return not (other.fingerprint and tile.fingerprint and are_duplicates(other.fingerprint, tile.fingerprint))

    def _fingerprint(self, tile: Tile, read: Reader, image: np.ndarray | None = None) -> Fingerprint:
        if tile.fingerprint is not None:
            return tile.fingerprint
        if tile.hr not in self._fingerprints:
            self._fingerprints[tile.hr] = fingerprint(read(tile.hr) if image is None else image)
        return self._fingerprints[tile.hr]

    def _nothing_for(self, classes: list[str]) -> DataError:
        return DataError(
            f"{self.origin}: no reference for class {', '.join(classes)}: it has no image there besides the image "
            "itself and its duplicates. Add images of the class, or set reference: none."
        )
