"""The PyTorch modules of the learned forecasters; importing this module imports torch."""

from __future__ import annotations

import torch
from torch import nn


class LstmNet(nn.Module):
    """LSTM over (c, n + 1) values, linear head on the last state: (c, m)."""

    def __init__(self, hidden: int, m: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(x.unsqueeze(-1))
        out: torch.Tensor = self.head(states[:, -1])
        return out


class TransformerNet(nn.Module):
    """Pre-norm encoder over (c, n + 1) values with learned positions: (c, m)."""

    def __init__(self, n: int, m: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.position = nn.Parameter(0.02 * torch.randn(n + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, m))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(self.embed(x.unsqueeze(-1)) + self.position)
        out: torch.Tensor = self.head(tokens[:, -1])
        return out
