"""The losses of recorded runs, measured by the data set's own network, loss and data.

What a recorder noted while a run trained are losses on single batches, or other losses. Steps
gained and the loss at the origin are held against losses of one kind, so those of every snapshot
are measured as a forecast's are. That is done once; the numbers lie in the user's cache, which can
be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.evaluator import rebuild
from weightcast.datasets.fetching.fetch import cache_folder
from weightcast.datasets.files.identity import identify
from weightcast.datasets.files.partial_file import write_text
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Metadata, Trajectory

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
#: Numbers that are measured without a word: snapshots × coordinates.
_SMALL = 50_000_000

Measured = dict[str, tuple[float, ...]]


def with_own_losses(run: Trajectory, recipe: Recipe, data: str) -> Metadata:
    """Return a run's metadata with a recipe, and with what its network does at every snapshot.

    Parameters
    ----------
    run : Trajectory
    recipe : Recipe
        The data set's.
    data : str
        SHA-256 of the data that it names.
    """
    said = recipe.to_json()
    if run.meta.recipe == said and run.meta.data == data and run.meta.train_loss:
        return run.meta  # measured in this very way while it was recorded
    path = _remembered(run, said, data)
    measured = _read(path, run.n_snapshots)
    if measured is None:
        measured = _measure(run, recipe)
        with suppress(InputError):  # a cache that cannot be written costs time and nothing else
            write_text(path, json.dumps(measured))
    losses: dict[str, Any] = {name: measured.get(name, ()) for name in METRICS}
    return replace(run.meta, recipe=said, data=data, **losses)


def _measure(run: Trajectory, recipe: Recipe) -> Measured:
    if run.n_snapshots * run.n_coordinates > _SMALL:
        print(
            f"note: measuring the losses of {run.label} at its {run.n_snapshots} snapshots, once",
            file=sys.stderr,
        )
    found: dict[str, list[float]] = {}
    with _one_thread():
        _, evaluator = rebuild(recipe)
        for snapshot in range(run.n_snapshots):
            for name, value in evaluator.measure(run.snapshot(snapshot)).items():
                found.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in found.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Measure as workers do, whose sums have one order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _remembered(run: Trajectory, recipe: dict[str, Any], data: str) -> Path:
    identity: list[Any] = [file._replace(device=0) for file in identify(run.files)]
    identity += [str(path.resolve()) for path in run.files]
    identity += [run.label, recipe, data]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "own-losses" / f"{name}.json"


def _read(path: Path, snapshots: int) -> Measured | None:
    """Return what was measured before; None where it was not, or the file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(found, dict) and "train_loss" in found
    if not whole or not all(
        name in METRICS
        and isinstance(values, list)
        and len(values) == snapshots
        and all(type(value) is float for value in values)
        for name, values in found.items()
    ):
        return None
    return {name: tuple(values) for name, values in found.items()}
