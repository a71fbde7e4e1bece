"""Lineage: what runs share. A test run must share nothing random with a run that was trained on.

Recipe and data are shared within a data set by nature. What must differ is the content, the seed
and, where starts are random, the first snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from weightcast.datasets.admission.gates import SHARED_START_TRACKS
from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import Trajectory


@dataclass(frozen=True)
class Lineage:
    """Where a run comes from.

    Attributes
    ----------
    label : str
        Data set and seed.
    seed : int
    content : str
        The trajectory's content hash.
    start : str
        SHA-256 of its initial state.
    recipe : str
        SHA-256 of its recipe.
    data : str
        SHA-256 of what it was trained on; empty where that is not known.
    """

    label: str
    seed: int
    content: str
    start: str
    recipe: str
    data: str = ""


def lineage(run: Trajectory) -> Lineage:
    """Hash a run's content, start and recipe; reads the run once."""
    start = hashlib.sha256()
    for name, values in run.initial().items():
        start.update(f"\0{name}\0".encode())
        start.update(values.tobytes())
    recipe = hashlib.sha256(repr(sorted(run.meta.recipe.items())).encode()).hexdigest()
    return Lineage(
        run.label, run.meta.seed, run.content_hash(), start.hexdigest(), recipe, run.meta.data
    )


def refuse_shared(train: Sequence[Lineage], test: Sequence[Lineage], track: str = "main") -> None:
    """Refuse a task whose training and test runs share content, seed or a random start.

    Raises
    ------
    InputError
        Naming the two runs and what they share.
    """
    for what in ("content", "seed", *(() if track in SHARED_START_TRACKS else ("start",))):
        known = {getattr(run, what): run for run in train}
        for run in test:
            other = known.get(getattr(run, what))
            if other is not None:
                name = {"content": "content", "seed": "seed", "start": "initial state"}[what]
                raise InputError(
                    f"test run {run.label} and training run {other.label} share their {name}; "
                    "a forecast of the one could be looked up in the other"
                )
