"""Moving reference texture to where it matches: overlapping patches, weighted, summed over the matches, folded back."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ttrd3.networks.matching import sum_3x3


def transfer(
    reference: Tensor, index: Tensor, weights: Tensor, grid: tuple[int, int], s: int, shared: bool = False
) -> Tensor:
    """Weighted sum of the matched reference patches, overlap-added (not yet divided by the overlap).

    A level that is s times finer than the matching grid has patches of 3s pixels, stride s, padding s. Such a patch is
    3x3 blocks of s x s pixels, so block c of the result gathers, for each of its nine neighbours p = c - o, the blocks
    q(p) + o of the K matches q. One `embedding_bag` sums all 9 K of them without unfolding a patch.

    Args:
        reference: (N R, C, s H', s W') features of R references for each of the N images, those of one image together.
        index: (N, H W, K) positions q in the R grids H' x W' of reference blocks, one grid after the other.
        weights: (N, H W, K).
        grid: (H, W) of the LR positions.
        s: Size of a block: 1, 2, 4 at levels 3, 2, 1.
        shared: All images have the same references, (R, C, s H', s W').

    Returns:
        (N, C, s H, s W).
    """
    n = len(index)
    height, width = grid
    blocks = F.pixel_unshuffle(reference, s)  # (N, C s s, H', W')
    rows, columns = blocks.shape[2:]
    table = blocks.permute(0, 2, 3, 1).reshape(len(reference) * rows * columns, -1)
    nowhere = len(table)  # a last row of zeros: what lies outside the reference or the grid
    table = torch.cat([table, table.new_zeros(1, table.shape[1])])

    image = torch.arange(n, device=index.device).view(n, 1, 1) * (0 if shared else len(reference) // n)
    image = (image + index // (rows * columns)).view(n, height, width, -1) * (rows * columns)
    row = (index % (rows * columns) // columns).view(n, height, width, -1)
    column = (index % columns).view(n, height, width, -1)
    weights = weights.reshape(n, height, width, -1)
    bags, bag_weights = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            position = torch.where(inside, image + y * columns + x, nowhere)
            bags.append(_shift(position, dy, dx, fill=nowhere))
            bag_weights.append(_shift(weights, dy, dx, fill=0))
    index, weights = torch.cat(bags, dim=-1).flatten(0, 2), torch.cat(bag_weights, dim=-1).flatten(0, 2).to(table.dtype)
    out = _gather_sum(table, index, weights, nowhere)
    return F.pixel_shuffle(out.view(n, height, width, -1).permute(0, 3, 1, 2), s).contiguous()


def _gather_sum(table: Tensor, index: Tensor, weights: Tensor, nowhere: int) -> Tensor:
    """sum_b weights[p, b] table[index[p, b]]: (rows, C), (P, B) twice -> (P, C); row number `nowhere` is all zeros."""
    if torch.compiler.is_exporting():  # ONNX has no embedding_bag: it would become a loop over the positions
        parts = zip(index.split(9, dim=1), weights.split(9, dim=1), strict=True)  # all at once would take 9 K images
        return sum((weight[:, None] @ F.embedding(position, table))[:, 0] for position, weight in parts)
    return F.embedding_bag(index, table, per_sample_weights=weights, mode="sum", padding_idx=nowhere)


def overlap(grid: tuple[int, int], like: Tensor) -> Tensor:
    """How many patches cover each position of the grid, (1, 1, H, W): 9 inside, 6 at borders, 4 in corners."""
    return sum_3x3(like.new_ones(1, 1, *grid))


def _shift(x: Tensor, dy: int, dx: int, fill: float) -> Tensor:
    """result[:, y, x] = x[:, y - dy, x - dx], `fill` where that is outside."""
    height, width = x.shape[1:3]
    padded = F.pad(x, (0, 0, 1, 1, 1, 1), value=fill)
    return padded[:, 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
