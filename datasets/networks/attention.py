"""Small transformers: one that reads an image row by row, one that writes text on."""

from __future__ import annotations

import math

import torch
from torch import nn


class QueryKeyValue(nn.Linear):
    """The one layer that makes queries, keys and values; a type of its own names its kind."""


class Attention(nn.Module):
    """Multi-head self-attention, (N, length, width), causal if asked."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = QueryKeyValue(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        shape = (n, length, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, length, width)
        result: torch.Tensor = self.out(mixed)
        return result


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each after a layer norm and around a shortcut."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        shifted: torch.Tensor = self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))
        return x + shifted


def _blocks(layers: int, width: int, heads: int, *, causal: bool) -> nn.Sequential:
    return nn.Sequential(*(TransformerBlock(width, heads, causal=causal) for _ in range(layers)))


class RowTransformer(nn.Module):
    """A transformer whose tokens are an image's rows; the mean over tokens is classified.

    Parameters
    ----------
    size : int
        Height and width of the images, (N, size, size).
    width, heads, layers, classes : int
    """

    def __init__(self, size: int, width: int, heads: int, layers: int, classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Linear(size, width)
        self.position = nn.Embedding(size, width)
        self.blocks = _blocks(layers, width, heads, causal=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.embed(x) + self.position.weight)
        logits: torch.Tensor = self.out(self.norm(x).mean(dim=1))
        return logits


class CharacterTransformer(nn.Module):
    """A causal transformer over characters, (N, length) int64 to (N, length, characters) logits.

    Parameters
    ----------
    characters : int
        In the alphabet.
    length, width, heads, layers : int
    """

    def __init__(self, characters: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.position = nn.Embedding(length, width)
        self.blocks = _blocks(layers, width, heads, causal=True)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, characters)
        # Torch's unit normal would drown the first block's signal; 0.02 is the usual choice.
        for embedding in (self.embed, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks(self.embed(x) + self.position.weight[: x.shape[1]])
        logits: torch.Tensor = self.out(self.norm(hidden))
        return logits
