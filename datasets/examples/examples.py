"""Examples: inputs with their targets, split once and for all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Examples:
    """Inputs and targets. The tensors are shared by all who load them: do not write to them.

    Attributes
    ----------
    train_x, test_x : Tensor, shape (N, ...)
        Images are (N, height, width), as float32 in [0, 1] or as bytes that `inputs` scales; text
        is (N, length) int64, a character or a token each.
    train_y, test_y : Tensor, shape (N,) or (N, length), int64
        Classes, or the character that follows each.
    source, licence : str
    at_once : int or None
        How many rows may go through a large network at once; None leaves it to their size.
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    source: str
    licence: str
    at_once: int | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over all four tensors, their types and shapes."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(f"\0{tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def loss(self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a network's mean loss on some of the inputs and targets, to be differentiated."""
        return cross_entropy(network(inputs(x)), y)

    def measured(
        self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[float, float | None]:
        """Return the mean loss, and the share that is classified rightly where there are classes.

        Nothing is kept to differentiate by: call it under ``torch.no_grad()``.
        """
        logits = network(inputs(x))
        right = int((logits.argmax(dim=-1) == y).sum())
        return float(cross_entropy(logits, y)), right / y.numel()

    @property
    def has_test(self) -> bool:
        """Whether there are examples to test on."""
        return len(self.test_y) > 0


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits (..., classes) at targets (...)."""
    import torch

    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def inputs(x: torch.Tensor) -> torch.Tensor:
    """Make examples the input of a network: bytes become float32 in [0, 1]."""
    import torch

    # Kept as bytes, 60,000 images take a quarter of the memory in every worker process.
    return x.float() / 255 if x.dtype == torch.uint8 else x
