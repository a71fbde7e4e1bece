"""Convolutional networks for images of one channel, (N, height, width)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def cnn(size: int, channels: Sequence[int], hidden: int, classes: int = 10) -> nn.Module:
    """Build a plain CNN: a 3 × 3 convolution, ReLU and 2 × 2 pooling a stage, then two layers.

    Parameters
    ----------
    size : int
        Height and width of the images.
    channels : sequence of int
        Of each stage; every stage halves height and width.
    hidden, classes : int
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (1, size))]
    fan_in = 1
    for fan_out in channels:
        layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        fan_in, size = fan_out, size // 2
    layers += [nn.Flatten(), nn.Linear(fan_in * size * size, hidden), nn.ReLU()]
    layers.append(nn.Linear(hidden, classes))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm around a shortcut (He et al. 2016, option B)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
            nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(size: int, channels: Sequence[int] = (16, 32, 64), classes: int = 10) -> nn.Module:
    """Build He et al.'s CIFAR ResNet (arXiv 1512.03385, section 4.2) with one block a stage.

    With three stages it is ResNet-8: 6n + 2 layers with n = 1. Shortcuts that change the width
    are 1 × 1 convolutions (the paper's option B).

    Parameters
    ----------
    size : int
        Height and width of the images.
    channels : sequence of int
        Of each stage; all stages but the first halve height and width.
    classes : int
    """
    layers: list[nn.Module] = [
        nn.Unflatten(1, (1, size)),
        nn.Conv2d(1, channels[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
    ]
    fan_in = channels[0]
    for stage, fan_out in enumerate(channels):
        layers.append(ResidualBlock(fan_in, fan_out, 1 if stage == 0 else 2))
        fan_in = fan_out
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes)]
    return nn.Sequential(*layers)
