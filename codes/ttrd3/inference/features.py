"""Features of references: encoded once, kept while there is room, so that tiles with one reference share the work."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from ttrd3.inference.references import Excerpt
from ttrd3.networks.sttg import ReferenceFeatures


class FeatureCache:
    """Features by reference; those used longest ago make room for new ones.

    A reference is always encoded alone, so that its features do not depend, not even in the last bit, on what else is
    encoded, kept or forgotten.
    """

    def __init__(self, encode: Callable[[np.ndarray], ReferenceFeatures], limit: int):
        """Keep nothing yet.

        Args:
            encode: uint8 (H, W, 3) -> the features of one reference.
            limit: Bytes that are kept at most. Larger ones than this are handed out and forgotten.
        """
        self._encode, self._limit = encode, limit
        self._kept: OrderedDict[Hashable, ReferenceFeatures] = OrderedDict()
        self.bytes = 0

    def get(self, reference: Excerpt) -> ReferenceFeatures:
        """The features of a reference, R = 1.

        Raises:
            DataError: A file that cannot be read.
        """
        key = reference.key
        if key is not None and key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        features = self._encode(reference.pixels())
        size = size_of(features)
        if key is not None and size <= self._limit:
            while self.bytes + size > self._limit:
                self.bytes -= size_of(self._kept.popitem(last=False)[1])
            self._kept[key] = features
            self.bytes += size
        return features

    def clear(self) -> None:
        """Forget everything, where memory is short."""
        self._kept.clear()
        self.bytes = 0


def size_of(features: ReferenceFeatures) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (features.degraded, *features.levels))


def stacked(features: Sequence[ReferenceFeatures]) -> ReferenceFeatures:
    """Features of several references of one size, in turn."""
    if len(features) == 1:
        return features[0]
    levels = [torch.cat(level) for level in zip(*(found.levels for found in features), strict=True)]
    return ReferenceFeatures(torch.cat([found.degraded for found in features]), levels)
