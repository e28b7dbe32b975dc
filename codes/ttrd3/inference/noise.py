"""One field of noise for a whole image: a function of the seed, the draw and the absolute position, never of a tile.

So tiles that overlap see the same noise where they do, whatever their size, order, batch or process. The field is made
in blocks, each by a counter-based generator (Philox; Salmon et al., SC 2011) whose counter holds the block's position.
"""

import numpy as np

BLOCK = 64  # pixels


def noise_field(seed: int, draw: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Standard normal noise of a window of the field.

    Args:
        seed: 0 to 2^63 - 1.
        draw: Number of the field: another sample or another step has another one.
        top: First row of the window, at least 0.
        left: First column of the window, at least 0.
        height: Rows.
        width: Columns.

    Returns:
        float32 (3, height, width).
    """
    out = np.empty((3, height, width), np.float32)
    for block_row in range(top // BLOCK, (top + height - 1) // BLOCK + 1):
        for block_column in range(left // BLOCK, (left + width - 1) // BLOCK + 1):
            y, x = block_row * BLOCK - top, block_column * BLOCK - left  # of the block, in the window
            y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + BLOCK, height), min(x + BLOCK, width)
            block = _block(seed, draw, block_row, block_column)
            out[:, y0:y1, x0:x1] = block[:, y0 - y : y1 - y, x0 - x : x1 - x]
    return out


def _block(seed: int, draw: int, row: int, column: int) -> np.ndarray:
    # The generator counts its own steps in the lowest word of the counter, which no block uses up.
    counter = np.array([0, 0, row, column], np.uint64)
    source = np.random.Philox(key=np.array([seed, draw], np.uint64), counter=counter)
    return np.random.Generator(source).standard_normal((3, BLOCK, BLOCK), dtype=np.float32)
