"""Matching and transfer as the paper writes them: every patch unfolded. Slow; what the product is measured against."""

import torch.nn.functional as F
from torch import Tensor


def plain_similarity(lr: Tensor, reference: Tensor) -> Tensor:
    """(N, P_lr, P_ref) cosine of unfolded 3x3 patches."""
    patches = [F.normalize(F.unfold(x, 3, padding=1), dim=1) for x in (lr, reference)]
    return patches[0].transpose(1, 2) @ patches[1]


def plain_transfer(reference: Tensor, index: Tensor, weights: Tensor, grid: tuple[int, int], s: int) -> Tensor:
    """Unfolds patches of 3s pixels, takes K for each position, folds them back."""
    patches = F.unfold(reference, 3 * s, padding=s, stride=s)  # (N, C 9 s s, P_ref)
    total = sum(
        weights[:, None, :, k] * patches.gather(2, index[:, None, :, k].expand(-1, patches.shape[1], -1))
        for k in range(index.shape[2])
    )
    return F.fold(total, (grid[0] * s, grid[1] * s), 3 * s, padding=s, stride=s)
