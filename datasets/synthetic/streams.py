"""Random streams of the synthetic sets: one for each set, run and purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def random_stream(name: str, seed: int, purpose: str) -> np.random.Generator:
    """Return the stream seeded by SHA-256 of ``name/seed/purpose``.

    With the bare seed two sets would share their problems or starts, and a method trained on one
    would know the other.

    Parameters
    ----------
    name : str
        The data set's.
    seed : int
        The run's.
    purpose : str
        What is drawn, e.g. ``"problem"``.
    """
    digest = hashlib.sha256(f"{name}/{seed}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
