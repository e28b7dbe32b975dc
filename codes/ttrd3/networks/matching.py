"""Which reference position fits which LR position: cosine similarity of 3x3 feature patches, exact, in bounded memory.

The similarity of two patches is the sum of the similarities of their nine pixel pairs. So the product of all LR pixels
with all reference pixels is made once, and summed along the nine equal shifts of both: a ninth of the operations of
unfolding the patches, without the unfolded copies.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-12  # a patch of zeros is similar to nothing


class Matches(NamedTuple):
    """The K best reference positions of each LR position, best first.

    index: (N, P_lr, K) int64, row-major position in the reference grid; similarity: (N, P_lr, K), cosine in [-1, 1].
    """

    index: Tensor
    similarity: Tensor


def match(lr: Tensor, reference: Tensor, k: int, memory: int) -> Matches:
    """The K best matches of each 3x3 patch (zero padding 1) of `lr` among those of `reference`, at least in float32.

    In half precision, under autocast too, many candidates would tie: cosines near 1 are 1/256 apart in bfloat16.

    The search is not differentiated, its result is: the similarities of the pairs found are computed again from the
    features, which costs K / P_ref of the search.

    Args:
        lr: (N, C, H, W) features of the enlarged LR image.
        reference: (N, C, H', W') features of the degraded reference.
        k: Matches per position.
        memory: Bytes that the similarities of one chunk of LR rows may take.
    """
    least = torch.promote_types(lr.dtype, torch.float32)
    lr, reference = lr.to(least), reference.to(least)
    with torch.autocast(lr.device.type, enabled=False):
        with torch.no_grad():
            index = torch.cat([_search(a, b, k, memory) for a, b in zip(lr, reference, strict=True)])
        return Matches(index, _similarity_of_pairs(lr, reference, index))


def _search(lr: Tensor, reference: Tensor, k: int, memory: int) -> Tensor:
    """(C, H, W), (C, H', W') -> (1, H W, K) positions in the reference."""
    channels, height, width = lr.shape
    # Up to three full-size tensors live at once while the shifts are summed.
    row_bytes = 3 * lr.element_size() * (width + 2) * (reference.shape[1] + 2) * (reference.shape[2] + 2)
    rows = max(1, memory // row_bytes - 2)
    reference_norm = patch_norm(reference[None])[0].flatten()  # (H' W',)
    lr, reference = F.pad(lr, (1, 1, 1, 1)), F.pad(reference, (1, 1, 1, 1))
    flat_reference = reference.reshape(channels, -1)
    found = []
    for top in range(0, height, rows):
        strip = lr[:, top : min(top + rows, height) + 2]
        pixels = (strip.reshape(channels, -1).T @ flat_reference).view(*strip.shape[1:], *reference.shape[1:])
        # The square of shifts is separable: rows of both images first, then columns.
        below = [pixels[i : i + strip.shape[1] - 2, :, i : i + reference.shape[1] - 2] for i in range(3)]
        patches = (below[0] + below[1]).add_(below[2])
        beside = [patches[:, i : i + width, :, i : i + reference.shape[2] - 2] for i in range(3)]
        patches = (beside[0] + beside[1]).add_(beside[2])
        # The norm of the LR patch is the same for all candidates: it does not change which is best.
        found.append(patches.flatten(2).flatten(0, 1).div_(reference_norm).topk(k, dim=1).indices)
    return torch.cat(found)[None]


def _similarity_of_pairs(lr: Tensor, reference: Tensor, index: Tensor) -> Tensor:
    """Cosine similarity of the patches of each LR position and its matches, (N, P_lr, K), with gradients."""
    n, channels, height, width = lr.shape
    norms = patch_norm(lr).flatten(1)[:, :, None] * patch_norm(reference).flatten(1).gather(1, index.flatten(1)).view(
        index.shape
    )
    columns = reference.shape[3]
    row, column = index // columns, index % columns
    padded = F.pad(reference, (1, 1, 1, 1)).flatten(2)
    shifted_lr = F.pad(lr, (1, 1, 1, 1))
    total = 0
    for dy in range(3):
        for dx in range(3):
            position = ((row + dy) * (columns + 2) + column + dx).flatten(1)  # (N, P_lr K)
            theirs = padded.gather(2, position[:, None].expand(-1, channels, -1)).view(n, channels, *index.shape[1:])
            ours = shifted_lr[:, :, dy : dy + height, dx : dx + width].flatten(2)
            total = total + (ours[..., None] * theirs).sum(1)
    return total / norms


def patch_norm(features: Tensor) -> Tensor:
    """Euclidean norm of each 3x3 patch (zero padding 1): (N, C, H, W) -> (N, H, W), at least EPSILON."""
    summed = sum_3x3(features.square().sum(1, keepdim=True))[:, 0]
    return summed.clamp(min=EPSILON**2).sqrt()


def sum_3x3(x: Tensor) -> Tensor:
    """Sum over the 3x3 neighbours of each position, zeros outside: (N, 1, H, W) -> (N, 1, H, W)."""
    return F.conv2d(x, x.new_ones(1, 1, 3, 3), padding=1)
