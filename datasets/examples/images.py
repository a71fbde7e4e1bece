"""Images that recipes train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.fetching.fetch import fetched_files


def digits() -> Examples:
    """scikit-learn's 1,797 digits of 8 × 8 pixels: 1,437 to train on, 360 to test on."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # One fixed split for all runs, drawn once: rows are stored writer by writer, so a cut by
    # position would test on writers that training never saw.
    order = np.random.default_rng(20250502).permutation(len(labels))
    x = torch.tensor(pixels[order].reshape(-1, 8, 8) / 16.0, dtype=torch.float32)
    y = torch.tensor(labels[order], dtype=torch.int64)
    return Examples(x[:1437], y[:1437], x[1437:], y[1437:], "digits", "BSD-3-Clause")


def fashion(train: int | None = None) -> Examples:
    """Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 60,000 + 10,000 of 28 × 28 bytes.

    Parameters
    ----------
    train : int, optional
        How many of the training images there are, the first ones; by default all.

    Raises
    ------
    InputError
        If it has yet to be fetched.
    """
    files = fetched_files("fashion-mnist")
    parts = []
    for part in ("train", "t10k"):
        parts.append(_pixels(files[f"{part}-images-idx3-ubyte"]))
        parts.append(_labels(files[f"{part}-labels-idx1-ubyte"]))
    train_x, train_y, test_x, test_y = parts
    return Examples(train_x[:train], train_y[:train], test_x, test_y, "Fashion-MNIST", "MIT")


def _pixels(path: Path) -> torch.Tensor:
    """Read an idx3 file: a header of 16 bytes, then the pixels."""
    values = np.fromfile(path, dtype=np.uint8, offset=16)
    return torch.from_numpy(values.reshape(-1, 28, 28))


def _labels(path: Path) -> torch.Tensor:
    """Read an idx1 file: a header of 8 bytes, then the labels."""
    return torch.from_numpy(np.fromfile(path, dtype=np.uint8, offset=8)).long()
