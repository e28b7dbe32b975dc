"""Channel and spatial attention: CBAM (arXiv:1807.06521) and squeeze-and-excitation (arXiv:1709.01507)."""

import torch
from torch import Tensor, nn

REDUCTION = 16
OPEN = 2.0  # bias of a gate at the start: textures that are of no use yet must not shut it before they are
FEWEST = 4  # hidden units: with fewer, a narrow network risks that all of them are dead ReLUs


def hidden_width(width: int) -> int:
    """Hidden units of the two-layer attention MLPs."""
    return max(FEWEST, width // REDUCTION)


class CBAM(nn.Module):
    """Channel attention from max- and mean-pooled features, then 7x7 spatial attention over [max, mean]; no biases."""

    def __init__(self, width: int):
        super().__init__()
        hidden = hidden_width(width)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, width, 1, bias=False)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        pooled = self.mlp(x.amax(dim=(2, 3), keepdim=True)) + self.mlp(x.mean(dim=(2, 3), keepdim=True))
        x = x * pooled.sigmoid()
        maps = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * self.spatial(maps).sigmoid()


class SqueezeExcitation(nn.Module):
    """Mean pool, Linear, ReLU, Linear, sigmoid: a weight for each channel."""

    def __init__(self, width: int):
        super().__init__()
        hidden = hidden_width(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid())
        nn.init.constant_(self.mlp[2].bias, OPEN)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * self.mlp(x.mean(dim=(2, 3)))[:, :, None, None]
