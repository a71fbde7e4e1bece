"""A recurrent network that reads an image row by row."""

from __future__ import annotations

import torch
from torch import nn


class RowLstm(nn.Module):
    """An LSTM over an image's rows, (N, height, width), and a linear layer on its last state."""

    def __init__(self, width: int, hidden: int, classes: int = 10) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(x)
        logits: torch.Tensor = self.out(states[:, -1])
        return logits
