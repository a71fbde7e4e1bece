"""Image data that recipes train on, split into train and test once and for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from weightcast.datasets.errors import unknown


@dataclass(frozen=True)
class Images:
    """Labelled images, float32 in [0, 1].

    Attributes
    ----------
    train_x, test_x : Tensor, shape (N, height, width)
    train_y, test_y : Tensor, shape (N,), int64
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def _digits() -> Images:
    """scikit-learn's 1,797 digits of 8 × 8 pixels: 1,437 to train on, 360 to test on."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # One fixed split for all runs, drawn once: rows are stored writer by writer, so a cut by
    # position would test on writers that training never saw.
    order = np.random.default_rng(20250502).permutation(len(labels))
    x = torch.tensor(pixels[order].reshape(-1, 8, 8) / 16.0, dtype=torch.float32)
    y = torch.tensor(labels[order], dtype=torch.int64)
    return Images(x[:1437], y[:1437], x[1437:], y[1437:])


IMAGES: dict[str, Callable[[], Images]] = {"digits": _digits}


@cache
def load_images(name: str) -> Images:
    """Load an image set by name; the tensors are shared, so do not write to them.

    Raises
    ------
    InputError
        If the name is not known.
    """
    if name not in IMAGES:
        raise unknown("image data", name, IMAGES)
    return IMAGES[name]()
