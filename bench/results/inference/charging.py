"""Who is ranked, and what failures cost.

A failure is no success: a method is ranked only while at most one in twenty of its cells failed.
Each of these is charged the worse of the baseline's error and the method's own worst on that task.
Who fails more often stands below the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.loop.verdicts import MOST_FAILED
from weightcast.bench.results.inference.errors import SetErrors
from weightcast.datasets import InputError
from weightcast.datasets.admission.gates import FEWEST_RUNS
from weightcast.datasets.errors import unknown


@dataclass(frozen=True)
class Unranked:
    """A method too many of whose cells failed, or that has not been run on enough yet.

    Attributes
    ----------
    method : str
    failures : int
    cells : int
        Of how many; those that it has been run on.
    lacks : int
        How many it has not been run on, where that is the reason.
    """

    method: str
    failures: int
    cells: int
    lacks: int = 0

    @property
    def spoken(self) -> str:
        """The reason.

        Examples
        --------
        >>> Unranked("a", 3, 36).spoken, Unranked("a", 0, 2, lacks=10).spoken
        ('3 of 36 cells failed', 'run on 2 of 12 cells so far')
        """
        if self.lacks:
            return f"run on {self.cells} of {self.cells + self.lacks} cells so far"
        return f"{self.failures} of {self.cells} cells failed"


@dataclass(frozen=True)
class Ready:
    """What is ranked, with a number in every cell.

    Attributes
    ----------
    methods : list of str
        Those that are ranked.
    failures : list of int
        Of each.
    sets : list of SetErrors
    """

    methods: list[str]
    failures: list[int]
    unranked: list[Unranked]
    sets: list[SetErrors]
    tasks: list[str]
    left_out: list[str]


def ready(methods: Sequence[str], sets: Sequence[SetErrors], baseline: str) -> Ready:
    """Tell who is ranked, charge failures, and leave out data sets with too few runs."""
    check_baseline(methods, baseline)
    sets = [_usable(data) for data in sets]
    # Of each set and method: which cells failed, (contexts, runs, repeats).
    lacking = [[np.isnan(own).any(axis=1) for own in data.by_method()] for data in sets]
    found = Failures(
        np.sum([[own.sum() for own in failed] for failed in lacking], axis=0, dtype=int),
        np.sum([[own.size for own in failed] for failed in lacking], axis=0, dtype=int),
    )
    done = [[np.isfinite(own).any() for own in data.by_method()] for data in sets]
    kept, unranked = found.split(methods, baseline, np.any(done, axis=0) if done else None)
    base = [methods[i] for i in kept].index(baseline)
    charged, left_out = [], []
    tasks: list[str] = []
    for data in sets:
        if len(data.runs) < FEWEST_RUNS:
            left_out.append(
                f"{data.dataset}: {len(data.runs)} usable runs, {FEWEST_RUNS} are needed"
            )
            continue
        ranked = data.only(kept, np.ones(len(data.runs), dtype=bool))
        charged.append(charge(ranked, base))
        tasks += data.tasks
    if not charged:
        raise InputError(f"no data set has enough runs to rank: {'; '.join(left_out) or 'no runs'}")
    failures = [int(found.failed[i]) for i in kept]
    return Ready([methods[i] for i in kept], failures, unranked, charged, tasks, left_out)


@dataclass(frozen=True)
class Failures:
    """How many cells of each method failed, of how many."""

    failed: NDArray[np.int_]
    cells: NDArray[np.int_]

    def split(
        self, methods: Sequence[str], baseline: str, done: NDArray[np.bool_] | None
    ) -> tuple[list[int], list[Unranked]]:
        """Tell methods that are ranked, by place, from those that are not; the baseline is."""
        kept, unranked = [], []
        for i, method in enumerate(methods):
            failed, cells = int(self.failed[i]), int(self.cells[i])
            fails = failed > MOST_FAILED * cells or (done is not None and not done[i])
            if fails and method != baseline:
                unranked.append(Unranked(method, failed, cells))
            else:
                kept.append(i)
        return kept, sorted(
            unranked, key=lambda one: (one.failures / max(1, one.cells), one.method)
        )


def _usable(data: SetErrors) -> SetErrors:
    """Leave out runs that hardly move: no method has a relative error there, and none failed."""
    finite = np.asarray(np.isfinite(data.errors).any(axis=-1))
    # A run may begin to move only after the first horizon.
    moving = np.asarray(finite.any(axis=(0, 1, 2)))
    return data.only(range(len(data.errors)), moving)


def charge(data: SetErrors, base: int) -> SetErrors:
    """Put a number where a method has none; the baseline has all."""
    errors = data.errors.copy()
    baseline = data.by_method()[base]
    if np.isnan(baseline).any():
        raise InputError("the baseline has no result on some tasks; choose another baseline")
    beside = np.median(baseline, axis=-1)  # (contexts, horizons, runs)
    for place, own in enumerate(data.by_method()):
        failed = np.isnan(own)
        worst = np.where(failed, 0.0, own).max(axis=(-2, -1), keepdims=True, initial=0.0)
        charge = np.maximum(worst, beside[..., None])
        errors[place, ..., : own.shape[-1]] = np.where(failed, charge, own)
    return replace(data, errors=errors)


def check_baseline(methods: Sequence[str], baseline: str) -> None:
    """Refuse a baseline that is not among the methods."""
    if baseline not in methods:
        raise unknown("baseline", baseline, methods)
