"""Attention for sampling: channels last throughout, the gain of the norm folded into the projection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ttrd3.networks.fast.convolutions import fold
from ttrd3.networks.layers import HEAD_WIDTH, HEADS, Attention, LinearAttention

INNER = HEADS * HEAD_WIDTH
CHUNK = 4096  # positions of linear attention at once on a CPU: what is between its products then stays in the cache


def pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C), a view of channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def image(pixels: Tensor, like: Tensor) -> Tensor:
    """(N, H W, C) -> (N, C, H, W) of `like`'s height and width, channels last."""
    return pixels.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def heads(x: Tensor) -> Tensor:
    """(N, P, heads * 32) -> (N, heads, P, 32)."""
    return x.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)


class FastLinearAttention:
    """LinearAttention in chunks of positions; q, k and v are never held for all of them.

    Out of the chunks' sums of exp(k) v comes one small matrix per image, which the output projection is folded into:
    the second pass multiplies it with softmax(q).
    """

    def __init__(self, attention: LinearAttention, dtype: torch.dtype):
        weight = attention.qkv.weight.flatten(1) * attention.norm.gain.flatten()
        self.query, self.key_value = fold(weight[:INNER], dtype), fold(weight[INNER:], dtype)
        projection, norm = attention.out
        self.projection = fold(projection.weight.flatten(1), torch.float32)  # (C, heads * 32)
        self.bias, self.gain = fold(projection.bias, dtype), fold(norm.gain.flatten(), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        values = pixels(x)
        count, width = values.shape[1:]
        in_chunks = x.device.type == "cpu" and not torch.compiler.is_exporting()
        chunks = F.layer_norm(values, (width,)).split(CHUNK if in_chunks else count, dim=1)
        context = self._context(chunks) * (HEAD_WIDTH**-0.5 / count)  # (N, heads, 32 of k, 32 of v)
        folded = context @ self.projection.T.unflatten(0, (HEADS, HEAD_WIDTH))  # (N, heads, 32 of k, C)
        folded = folded.flatten(1, 2).to(x.dtype)
        out = []
        for chunk in chunks:
            q = F.linear(chunk, self.query).unflatten(2, (HEADS, HEAD_WIDTH)).softmax(3).flatten(2)
            out.append(F.layer_norm(torch.baddbmm(self.bias, q, folded), (width,), self.gain))
        return image(values + torch.cat(out, dim=1), x)

    def _context(self, chunks: tuple[Tensor, ...]) -> Tensor:
        """softmax(k) over all positions times v, (N, heads, 32, 32) in float32.

        Each chunk is taken relative to its own peak of k, and brought to the common one at the end.
        """
        peaks, totals, products = [], [], []
        for chunk in chunks:
            k, v = F.linear(chunk, self.key_value).chunk(2, dim=2)
            peak = k.amax(dim=1, keepdim=True)
            k = (k - peak).exp_()
            peaks.append(peak.float())
            totals.append(k.sum(dim=1, keepdim=True, dtype=torch.float32))
            of_heads = zip(k.split(HEAD_WIDTH, dim=2), v.split(HEAD_WIDTH, dim=2), strict=True)
            products.append(torch.stack([a.transpose(1, 2) @ b for a, b in of_heads], dim=1).float())
        scale = torch.stack(peaks)
        scale = (scale - scale.amax(dim=0)).exp()  # (chunks, N, 1, heads * 32)
        total = (torch.stack(totals) * scale).sum(dim=0)
        product = (torch.stack(products) * _column(scale)).sum(dim=0)
        return product / _column(total)


def _column(of_keys: Tensor) -> Tensor:
    """(..., 1, heads * 32) -> (..., heads, 32, 1)."""
    return of_keys.squeeze(-2).unflatten(-1, (HEADS, HEAD_WIDTH, 1))


class FastAttention:
    """Attention, its softmax without a matrix of all pairs."""

    def __init__(self, attention: Attention, dtype: torch.dtype):
        self.qkv = fold(attention.qkv.weight.flatten(1) * attention.norm.gain.flatten(), dtype)
        self.projection, self.bias = fold(attention.out.weight.flatten(1), dtype), fold(attention.out.bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        values = pixels(x)
        q, k, v = F.linear(F.layer_norm(values, values.shape[2:]), self.qkv).chunk(3, dim=2)
        out = F.scaled_dot_product_attention(heads(q), heads(k), heads(v)).transpose(1, 2).flatten(2)
        return image(values + F.linear(out, self.projection, self.bias), x)
