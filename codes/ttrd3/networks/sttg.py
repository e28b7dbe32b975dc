"""STTG: sparse texture transfer guidance (TTRD3, arXiv:2504.13026; specification section 3)."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ttrd3.errors import ConfigError
from ttrd3.networks.attention import SqueezeExcitation
from ttrd3.networks.matching import match
from ttrd3.networks.transfer import overlap, transfer
from ttrd3.registry import PositiveInt, Registry

TRANSFERS = Registry("transfer")
GRID = 256  # pixels of the images that the position codes were drawn for in the paper


class ReferenceFeatures(NamedTuple):
    """What STTG needs to know of references, position codes added where they belong; the same for every LR image.

    degraded: (R, C3, H'/4, W'/4) of the degraded references; levels: of the references, from quarter size up.
    """

    degraded: Tensor
    levels: list[Tensor]


class PositionCode(nn.Module):
    """A learned conv3x3 of a coordinate grid, added to features: channel 0 is the row, channel 1 the column."""

    def __init__(self, width: int, size: int):
        super().__init__()
        axis = torch.linspace(-1, 1, size)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[None]
        self.register_buffer("grid", grid, persistent=False)  # (1, 2, S, S)
        self.conv = nn.Conv2d(2, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        grid = F.interpolate(self.grid, features.shape[2:], mode="bilinear", align_corners=False)
        return features + self.conv(grid)


@TRANSFERS.register("STTG")
class STTG(nn.Module):
    """Transfers texture from the K best matching places of the reference to each place of the LR image.

    Similarity R = (1 - g) R_local + g R_global with g learned; weight sigmoid(R); patches of three blocks, overlapping,
    are summed with their weights and divided by their overlap; squeeze-excitation follows at each level.

    Options:
        selection: `fixed` takes the K best; `learned` weighs rank r by P(K >= r), a softmax over K = 1..matches, so
            that gradients reach it. Both are deterministic.
        matches: K (the largest K, when learned) at levels 3, 2, 1, that is for quarter, half and full size; as many as
            the encoder has levels.
        matching: What is compared. `coded`: level-3 features, the reference's with its position code, as in the paper.
            `normalized`: features without code, each channel brought to mean 0 and standard deviation 1 over the image.
            The code sits on one side only, so that with it nearly nothing is found at first; what stays of a channel
            without mean and deviation differs less between two dates.
        normalization: `overlap` divides by the number of patches that overlap; `released` by the patch area, which
            makes levels 2 and 1 four and sixteen times too small, a fault kept for the authors' weights.
        matching_memory: MiB that one chunk of the similarity search may take; the result does not depend on it.
    """

    def __init__(
        self,
        selection: Literal["fixed", "learned"] = "learned",
        matches: Annotated[Sequence[PositiveInt], Field(min_length=1, max_length=3)] = (5, 5, 5),
        matching: Literal["coded", "normalized"] = "coded",
        normalization: Literal["overlap", "released"] = "overlap",
        matching_memory: PositiveInt = 256,
        *,
        widths: Sequence[int],
        scales: Sequence[int],
    ):
        super().__init__()
        if len(matches) != len(widths):
            raise ConfigError(
                f"model.transfer.matches: found {list(matches)}, expected {len(widths)} numbers, one for each level of "
                f"the encoder (model.encoder.widths is {list(widths)})"
            )
        self.matches = tuple(matches)
        self.matching = matching
        self.normalization = normalization
        self.matching_memory = matching_memory * 2**20
        self.global_weight = nn.Parameter(torch.tensor(0.1))
        # Deepest level first, like `matches` and the rows of the released logits.
        deepest_first = list(reversed(widths))
        self.blocks = [scales[-1] // scale for scale in reversed(scales)]  # sides of the block of a matching position
        self.positions = nn.ModuleList(
            PositionCode(width, GRID // scale) for width, scale in zip(deepest_first, reversed(scales), strict=True)
        )
        self.excitations = nn.ModuleList(SqueezeExcitation(width) for width in deepest_first)
        learned = selection == "learned"
        self.k_logits = nn.ParameterList(torch.zeros(k) for k in self.matches) if learned else [None] * len(widths)

    def forward(self, lr: Tensor, degraded: Tensor, reference: Sequence[Tensor]) -> list[Tensor]:
        """Match, select, transfer.

        An image may have several references, of one size: the K best matches are those of all of them together.

        Args:
            lr: (N, C3, H/4, W/4) level-3 features of the enlarged LR image.
            degraded: (N R, C3, H'/4, W'/4) level-3 features of the degraded references, those of one image together.
            reference: Features of the references, the largest size first, the last at quarter size.

        Returns:
            Textures of the sizes and widths of `reference`, on the LR image's grid.
        """
        return self.textures(lr, self.code(degraded, reference))

    def code(self, degraded: Tensor, reference: Sequence[Tensor]) -> ReferenceFeatures:
        """Add the position codes to features of `degraded` and `reference`, shaped as in `forward`."""
        levels = [code(features) for code, features in zip(self.positions, reversed(reference), strict=True)]
        return ReferenceFeatures(self.positions[0](degraded) if self.matching == "coded" else degraded, levels)

    def textures(self, lr: Tensor, references: ReferenceFeatures, shared: bool = False) -> list[Tensor]:
        """The textures of `forward`; with `shared` each of the LR images has all the references."""
        degraded, coded = references
        if shared:
            degraded = degraded.repeat(len(lr), 1, 1, 1)
        count = len(degraded) // len(lr)
        repeated = lr if count == 1 else lr.repeat_interleave(count, 0)
        normalized = self.matching == "normalized"
        compared = (normalize(repeated), normalize(degraded)) if normalized else (repeated, degraded)
        local = match(*compared, min(max(self.matches), degraded[0, 0].numel()), self.matching_memory)
        overall = F.cosine_similarity(repeated.mean((2, 3)), degraded.mean((2, 3)))[:, None, None]
        similarity = (1 - self.global_weight) * local.similarity + self.global_weight * overall
        index = local.index
        if count > 1:
            index, similarity = best_of_all(index, similarity, count, degraded[0, 0].numel())
        weights = similarity.sigmoid()  # (N, P, K)

        grid = tuple(lr.shape[2:])
        covered = overlap(grid, lr)
        textures = []
        for level, (features, s) in enumerate(zip(coded, self.blocks, strict=True)):
            k = min(self.matches[level], weights.shape[2])
            level_weights = weights[:, :, :k]
            if self.k_logits[level] is not None:
                level_weights = level_weights * at_least(self.k_logits[level])[:k]
            texture = transfer(features, index[:, :, :k], level_weights, grid, s, shared)
            if self.normalization == "released":
                texture = texture / (9 * s * s)
            else:
                texture = texture / F.interpolate(covered, scale_factor=s, mode="nearest")
            textures.append(self.excitations[level](texture))
        return textures[::-1]


def normalize(features: Tensor) -> Tensor:
    """(N, C, H, W), each channel of each image less its mean and divided by its standard deviation."""
    variance, mean = torch.var_mean(features.float(), dim=(2, 3), keepdim=True, correction=0)
    return (features - mean) * torch.rsqrt(variance + 1e-6)


def best_of_all(index: Tensor, similarity: Tensor, references: int, positions: int) -> tuple[Tensor, Tensor]:
    """The K best of the matches with each of R references, best first.

    Args:
        index: (N R, P, K) positions, 0 to `positions` - 1 in each reference.
        similarity: (N R, P, K).
        references: R.
        positions: Of one reference.

    Returns:
        (N, P, K) of both; the index counts the positions of all R references one after the other.
    """
    k = index.shape[2]
    offset = torch.arange(references, device=index.device).view(1, references, 1, 1) * positions
    # (N R, P, K) -> (N, R, P, K) -> (N, P, R K)
    index = (index.unflatten(0, (-1, references)) + offset).transpose(1, 2).flatten(2)
    similarity = similarity.unflatten(0, (-1, references)).transpose(1, 2).flatten(2)
    best = similarity.topk(k, dim=2)
    return index.gather(2, best.indices), best.values


def at_least(logits: Tensor) -> Tensor:
    """P(K >= r) for r = 1..k_max from the logits of P(K = 1..k_max): starts at 1, never rises."""
    return logits.softmax(0).flip(0).cumsum(0).flip(0)
