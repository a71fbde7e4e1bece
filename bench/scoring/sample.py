"""The fixed random sample of coordinates on which slow methods run."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=8)  # drawing from a large network takes seconds, and each of its fits asks
def coordinate_sample(dataset: str, coordinates: int, size: int) -> NDArray[np.int64]:
    """Draw a data set's sample: the same flat indices for every run and method, ascending.

    Parameters
    ----------
    dataset : str
        Its name seeds the draw.
    coordinates : int
        Coordinates in one run.
    size : int
        Coordinates to draw; all of them where there are fewer.
    """
    digest = hashlib.sha256(f"coordinate sample of {dataset}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    sample = np.sort(random.permutation(coordinates)[:size])
    sample.flags.writeable = False
    return sample
