"""What recipes train and measure on: inputs with their targets, split once and for all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    import torch

#: Which data need files that `weightcast fetch` gets, and under what name.
FETCHED = {"fashion": "fashion-mnist", "austen": "austen", "movie-reviews": "movie-reviews"}


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


def inputs(x: torch.Tensor) -> torch.Tensor:
    """Make examples the input of a network: bytes become float32 in [0, 1]."""
    import torch

    # Kept as bytes, 60,000 images take a quarter of the memory in every worker process.
    return x.float() / 255 if x.dtype == torch.uint8 else x


def _digits() -> Examples:
    from weightcast.datasets.examples.images import digits

    return digits()


def _fashion() -> Examples:
    from weightcast.datasets.examples.images import fashion

    return fashion()


def _austen() -> Examples:
    from weightcast.datasets.examples.text import austen

    return austen()


def _movie_reviews(**options: Any) -> Examples:
    from weightcast.datasets.examples.sentiment import movie_reviews

    return movie_reviews(**options)


EXAMPLES: dict[str, Callable[..., Examples]] = {
    "digits": _digits,
    "fashion": _fashion,
    "austen": _austen,
    "movie-reviews": _movie_reviews,
}


@cache
def load_examples(name: str, **options: Any) -> Examples:
    """Load data by name.

    Parameters
    ----------
    name : str
    **options
        What the data need beside their name, a tokenizer say.

    Raises
    ------
    InputError
        If the name is not known or has no such option, or if its files have yet to be fetched.
    """
    if name not in EXAMPLES:
        raise unknown("data", name, EXAMPLES)
    try:
        return EXAMPLES[name](**options)
    except TypeError as error:
        raise InputError(f"data {name}: {error}") from None
