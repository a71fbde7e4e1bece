"""What recipes train and measure on: inputs with their targets, split once and for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from weightcast.datasets.errors import unknown

if TYPE_CHECKING:
    import torch

#: Which data need files that `weightcast fetch` gets, and under what name.
FETCHED = {"fashion": "fashion-mnist", "austen": "austen"}


@dataclass(frozen=True)
class Examples:
    """Inputs and targets. The tensors are shared by all who load them: do not write to them.

    Attributes
    ----------
    train_x, test_x : Tensor, shape (N, ...)
        Images are (N, height, width), as float32 in [0, 1] or as bytes that `inputs` scales; text
        is (N, length) int64, a character each.
    train_y, test_y : Tensor, shape (N,) or (N, length), int64
        Classes, or the character that follows each.
    source, licence : str
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    source: str
    licence: str


def inputs(x: torch.Tensor) -> torch.Tensor:
    """Make examples the input of a network: bytes become float32 in [0, 1]."""
    import torch

    # Kept as bytes, 60,000 images take a quarter of the memory in every worker process.
    return x.float() / 255 if x.dtype == torch.uint8 else x


def _digits() -> Examples:
    from weightcast.datasets.images import digits

    return digits()


def _fashion() -> Examples:
    from weightcast.datasets.images import fashion

    return fashion()


def _austen() -> Examples:
    from weightcast.datasets.text import austen

    return austen()


EXAMPLES: dict[str, Callable[[], Examples]] = {
    "digits": _digits,
    "fashion": _fashion,
    "austen": _austen,
}


@cache
def load_examples(name: str) -> Examples:
    """Load data by name.

    Raises
    ------
    InputError
        If the name is not known, or if its files have yet to be fetched.
    """
    if name not in EXAMPLES:
        raise unknown("data", name, EXAMPLES)
    return EXAMPLES[name]()


def require_data(name: str) -> None:
    """See that the files of some data are here, without loading them.

    Raises
    ------
    InputError
        Naming the command that fetches them.
    """
    if name in FETCHED:
        from weightcast.datasets.fetching import fetched_files

        fetched_files(FETCHED[name])
