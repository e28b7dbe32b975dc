"""The eight orientations of an image, which a self-ensemble averages over (Timofte et al., arXiv:1511.02228)."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ttrd3.data.augment import apply_symmetry
from ttrd3.inference.references import Excerpt


def symmetries(ensemble: bool) -> Sequence[int]:
    """All eight that `apply_symmetry` knows, or the image as it is alone."""
    return range(8) if ensemble else (0,)


def turned(image: Tensor, symmetry: int) -> Tensor:
    """(..., H, W) -> the same as `apply_symmetry` turns it."""
    rotated = image.rot90(symmetry % 4, (-2, -1))
    return (rotated.flip(-1) if symmetry >= 4 else rotated).contiguous()


def turned_back(image: Tensor, symmetry: int) -> Tensor:
    """The inverse of `turned`."""
    rotated = image.flip(-1) if symmetry >= 4 else image
    return rotated.rot90(-symmetry % 4, (-2, -1)).contiguous()


def turned_excerpt(reference: Excerpt, symmetry: int) -> Excerpt:
    """A reference that is turned as the tile is."""
    key = None if reference.key is None else (reference.key, symmetry)
    return Excerpt(key, lambda: np.ascontiguousarray(apply_symmetry(reference.pixels(), symmetry)))
