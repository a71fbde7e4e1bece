"""A transformer encoder for millions of short sequences; importing this module imports torch.

Tokens lie as (width, tokens, coordinates), coordinates last: normalising, softmax and attention
over a dozen tokens are then sums of long contiguous rows. Laid out as usual, the short axes last,
they take up to twenty times as long on a CPU, and longer than the matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

EPSILON = 1e-5  # as in torch's LayerNorm


def encoder(width: int, layers: int, heads: int, *, last_only: bool) -> nn.Sequential:
    """Return pre-norm layers (width, t, c) → (width, t, c).

    With ``last_only`` the last layer computes no token but the last: (width, 1, c).
    """
    only = [False] * (layers - 1) + [last_only]
    return nn.Sequential(*(EncoderLayer(width, heads, last_only=last) for last in only))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward part with ReLU, twice as wide, each after a normalisation.

    It is `torch.nn.TransformerEncoderLayer` with ``norm_first`` and without dropout, started alike,
    but for the scale and shift after each normalisation: the map that follows has its own.
    """

    def __init__(self, width: int, heads: int, *, last_only: bool = False) -> None:
        super().__init__()
        self.heads, self.last_only = heads, last_only
        self.attend = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.xavier_uniform_(self.attend.weight)
        nn.init.zeros_(self.attend.bias)
        nn.init.zeros_(self.join.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        width = len(tokens)
        normed = normalised(tokens)
        weight, bias = self.attend.weight, self.attend.bias
        if self.last_only:
            query = mapped(weight[:width], normed[:, -1:], bias[:width])
            key, value = mapped(weight[width:], normed, bias[width:]).chunk(2)
            tokens = tokens[:, -1:]
        else:
            query, key, value = mapped(weight, normed, bias).chunk(3)
        q, k, v = (part.view(self.heads, -1, *part.shape[1:]) for part in (query, key, value))
        joined = attention(q, k, v).flatten(0, 1)
        tokens = tokens + mapped(self.join.weight, joined, self.join.bias)
        wide = torch.relu(mapped(self.up.weight, normalised(tokens), self.up.bias))
        return tokens + mapped(self.down.weight, wide, self.down.bias)


def mapped(
    weight: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return weight (k, width) times tokens (width, t, c), plus a bias (k,): (k, t, c)."""
    flat = tokens.reshape(len(tokens), -1)
    out = weight @ flat if bias is None else torch.addmm(bias[:, None], weight, flat)
    return out.view(-1, *tokens.shape[1:])


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return softmax attention of queries (h, d, t, c) to keys and values (h, d, s, c)."""
    out: torch.Tensor = _Attention.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Return (x − mean)/√(variance + ε) over the first axis."""
    out: torch.Tensor = _Normalised.apply(x)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """One head at a time, whose products (d, t, s, c) stay in the cache."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        weights = q.new_empty(len(q), q.shape[2], k.shape[2], q.shape[3])  # (h, t, s, c)
        for head, (asks, keys) in enumerate(zip(q, k, strict=True)):
            torch.sum(asks[:, :, None] * keys[:, None], 0, out=weights[head])
        weights = torch.softmax(weights.mul_(q.shape[1] ** -0.5), dim=2)
        out = torch.empty_like(q)
        for head, (share, values) in enumerate(zip(weights, v, strict=True)):
            torch.sum(share * values[:, None], 2, out=out[head])
        ctx.save_for_backward(q, k, v, weights)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, weights = ctx.saved_tensors
        of_q, of_k, of_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for head, share in enumerate(weights):
            above = grad[head][:, :, None]  # (d, t, 1, c)
            torch.sum(share * above, 1, out=of_v[head])
            of_share = (above * v[head][:, None]).sum(0).mul_(share)  # (t, s, c)
            of_scores = of_share.sub_(share * of_share.sum(1, keepdim=True))
            of_scores.mul_(q.shape[1] ** -0.5)
            torch.sum(of_scores * k[head][:, None], 2, out=of_q[head])
            torch.sum(of_scores * q[head][:, :, None], 1, out=of_k[head])
        return of_q, of_k, of_v


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(0)
        inverse = centred.square().mean(0).add_(EPSILON).rsqrt_()
        normal = centred.mul_(inverse)
        ctx.save_for_backward(normal, inverse)
        return normal

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        normal, inverse = ctx.saved_tensors
        along = (grad * normal).mean(0)
        return (grad - grad.mean(0)).sub_(normal * along).mul_(inverse)
