"""Nearest descriptors by faiss: every one compared up to a size, above it those of the nearest clusters."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

# Comparing 100 k with 100 k takes minutes on one core; from here on clusters save more than they lose.
EXACT_UP_TO = 200_000
_QUERIES = 1024  # at a time
_TRAINED_ON = 64  # descriptors per cluster that the clusters are found from
_PROBED = 16  # one in so many clusters is searched


class Searcher:
    """Finds the nearest of many descriptors by Euclidean distance; the same input gives the same answer."""

    def __init__(
        self,
        chunks: Callable[[], Iterable[np.ndarray]],
        count: int,
        width: int,
        *,
        standardized: bool,
        exact_up_to: int = EXACT_UP_TO,
    ):
        """Hold the descriptors, once.

        Args:
            chunks: Gives all of them in turn, float32 (n, width), each time it is called.
            count: How many they are in all.
            width: Numbers in a descriptor.
            standardized: Divide each number by its standard deviation first.
            exact_up_to: Compare with every one up to this count.
        """
        import faiss  # here, because who retrieves nothing need not load it

        self.count = count
        self._scale = _scales(chunks(), width) if standardized else np.ones(width, dtype=np.float32)
        self._clusters = 0 if count <= exact_up_to else int(4 * count**0.5)
        flat = faiss.IndexFlatL2(width)
        self._index = faiss.IndexIVFFlat(flat, width, self._clusters) if self._clusters else flat
        if self._clusters:
            self._index.train(_sample(self._scaled(chunks()), count, _TRAINED_ON * self._clusters, width))
            self._index.nprobe = max(1, self._clusters // _PROBED)
        for chunk in self._scaled(chunks()):
            self._index.add(chunk)

    def nearest(self, queries: np.ndarray, k: int, *, everywhere: bool = False) -> np.ndarray:
        """int64 (n, k), the rows nearest to each of float32 (n, width), nearest first, ties by row; -1 for none.

        With `everywhere` no cluster is left out.
        """
        k = min(k, self.count)
        if self._clusters and everywhere:
            former, self._index.nprobe = self._index.nprobe, self._clusters
        found = np.empty((len(queries), k), dtype=np.int64)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            distance, rows = self._index.search(np.ascontiguousarray(queries[part] * self._scale), k)
            found[part] = np.take_along_axis(rows, np.lexsort((rows, distance)), axis=1)
        if self._clusters and everywhere:
            self._index.nprobe = former
        return found

    def _scaled(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for chunk in chunks:
            yield np.ascontiguousarray(chunk * self._scale)


def _scales(chunks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """1 / standard deviation of each number, 0 for one that is always the same."""
    count, total, squares = 0, np.zeros(width), np.zeros(width)
    for chunk in chunks:
        values = chunk.astype(np.float64)
        count += len(values)
        total += values.sum(0)
        squares += (values**2).sum(0)
    mean = total / count
    variance = squares / count - mean**2
    differs = variance > 1e-12 * np.maximum(mean**2, 1e-12)
    return np.where(differs, 1 / np.sqrt(np.where(differs, variance, 1)), 0).astype(np.float32)


def _sample(chunks: Iterable[np.ndarray], count: int, size: int, width: int) -> np.ndarray:
    """`size` of the descriptors, evenly drawn by a fixed seed, in order."""
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:size])
    found = np.empty((len(chosen), width), dtype=np.float32)
    start = 0
    for chunk in chunks:
        here = (chosen >= start) & (chosen < start + len(chunk))
        found[here] = chunk[chosen[here] - start]
        start += len(chunk)
    return found
