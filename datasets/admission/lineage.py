"""Lineage: what runs share. A test run must share nothing random with a run that was trained on.

Recipe and data are shared within a data set by nature. What must differ is the content, the seed
and, where starts are random, the first snapshot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from weightcast.datasets.admission.gates import SHARED_START_TRACKS
from weightcast.datasets.admission.shipped import CHECKSUMS, shipped
from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import Trajectory

#: Metadata that no number of a forecast or of its score depends on.
_APART = {"seconds_per_step", "flops_per_step", "source", "licence"}
#: What `weightcast.datasets.task.make_task` takes from a run, beside its steps.
_TASK = ("learning_rates", "optimizer", "hyperparameters")


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
    described : str
        SHA-256 of all else that numbers can depend on: what the metadata say, and its state.
    task : str
        SHA-256 of what a task takes from the run that it is made after.
    data : str
        SHA-256 of what it was trained on; empty where that is not known.
    verified : str
        How its bytes were found to be those that were written, one of `HOW`; empty where nothing
        tells.
    """

    label: str
    seed: int
    content: str
    start: str
    recipe: str
    described: str
    task: str
    data: str = ""
    verified: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of content and description: of all that a forecast or its score can show."""
        return _hash([self.content, self.described])


def lineage(run: Trajectory) -> Lineage:
    """Hash a run's content, start and recipe; reads the run once."""
    start = hashlib.sha256()
    for name, values in run.initial().items():
        start.update(f"\0{name}\0".encode())
        start.update(values.tobytes())
    recipe = hashlib.sha256(repr(sorted(run.meta.recipe.items())).encode()).hexdigest()
    by_checksums, content = run.verify(), run.content_hash()
    return Lineage(
        label=run.label,
        seed=run.meta.seed,
        content=content,
        start=start.hexdigest(),
        recipe=recipe,
        described=_described(run),
        task=_hash([run.steps.tolist(), *(_short(getattr(run.meta, name)) for name in _TASK)]),
        data=run.meta.data,
        verified=CHECKSUMS if by_checksums else shipped(run, content),
    )


def fingerprint(run: Trajectory) -> str:
    """Return the fingerprint that a run's lineage would have; reads the run once."""
    return _hash([run.content_hash(), _described(run)])


def _described(run: Trajectory) -> str:
    """Hash metadata and state, but for what is known of a run's making and changes no number."""
    digest = hashlib.sha256()
    for snapshot in range(run.n_snapshots):
        for name, values in run.state(snapshot).items():
            digest.update(f"\0{snapshot}\0{name}\0{values.dtype} {values.shape}\0".encode())
            digest.update(values.tobytes())
    said = [f.name for f in fields(run.meta) if f.name not in _APART]
    return _hash([digest.hexdigest(), *(_short(getattr(run.meta, name)) for name in said)])


def _short(value: Any) -> Any:
    """Return a value as it is, but of many numbers their hash: a schedule may have millions."""
    if not isinstance(value, tuple):
        return value
    numbers = np.asarray(value, dtype=np.float64)
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()


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
