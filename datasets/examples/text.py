"""Text that recipes train on, character by character."""

from __future__ import annotations

import string

import numpy as np
import torch
from numpy.typing import NDArray

from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.fetching.fetch import fetched_files

#: The 80 characters that a network knows; any other (there is one, a pound sign) becomes a blank.
ALPHABET = "\n " + string.ascii_letters + string.digits + "!\"&'()*,-.:;?[]_"
#: Characters in an example.
LENGTH = 64


def austen() -> Examples:
    """Jane Austen's six novels, 4.0 million characters, as windows that do not overlap.

    Each target is the character after its input's. Of every 20 windows the last is for testing, so
    that training and testing both see all six novels.

    Raises
    ------
    InputError
        If they have yet to be fetched.
    """
    text = fetched_files("austen")["austen.txt"].read_text(encoding="utf-8")
    codes = torch.from_numpy(encode(text))
    count = (len(codes) - 1) // LENGTH
    x = codes[: count * LENGTH].view(count, LENGTH)
    y = codes[1 : count * LENGTH + 1].view(count, LENGTH)
    test = torch.arange(count) % 20 == 19
    return Examples(x[~test], y[~test], x[test], y[test], "Jane Austen's novels", "MIT")


def encode(text: str) -> NDArray[np.int64]:
    """Turn characters into their places in `ALPHABET`, shape (len(text),)."""
    table: NDArray[np.int64] = np.full(0x110000, ALPHABET.index(" "), dtype=np.int64)
    table[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    codes: NDArray[np.int64] = table[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")]
    return codes
