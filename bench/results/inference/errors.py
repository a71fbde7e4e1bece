"""Errors of methods on runs, laid out as arrays: what everything here is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class SetErrors:
    """One data set's errors.

    Attributes
    ----------
    dataset : str
    contexts : tuple of int
    runs : tuple of int
    errors : ndarray, shape (methods, contexts, horizons, runs, repeats)
        Failed cells are NaN. A metric that is taken once has one horizon.
    rotations : tuple of int, optional
        The rotation that each run is tested in: its fits are drawn together. All in one by default.
    repeats : tuple of int, optional
        How many fits each method has; what is beyond in ``errors`` does not count. All by default.
    names : tuple of str, optional
        The tasks' names, a context each; by default they name data set and context.
    """

    dataset: str
    contexts: tuple[int, ...]
    runs: tuple[int, ...]
    errors: Doubles
    rotations: tuple[int, ...] = ()
    repeats: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the tasks are called."""
        return self.names or tuple(f"{self.dataset}, context {one}" for one in self.contexts)

    def by_method(self) -> list[Doubles]:
        """Return each method's errors, (contexts, horizons, runs, its repeats)."""
        counts = self.repeats or (self.errors.shape[-1],) * len(self.errors)
        return [own[..., :count] for own, count in zip(self.errors, counts, strict=True)]

    def by_repeats(self) -> Iterator[tuple[list[int], Doubles]]:
        """Yield methods with as many fits, by place, and their errors.

        These are (methods, contexts, horizons, runs, their repeats).
        """
        counts = self.repeats or (self.errors.shape[-1],) * len(self.errors)
        for count in sorted(set(counts)):
            methods = [place for place, own in enumerate(counts) if own == count]
            yield methods, self.errors[methods][..., :count]

    def only(self, methods: Sequence[int], runs: NDArray[np.bool_]) -> SetErrors:
        """Narrow it down to some methods, by place, and to some runs, by mask."""
        return replace(
            self,
            runs=tuple(run for run, keep in zip(self.runs, runs, strict=True) if keep),
            errors=self.errors[list(methods)][:, :, :, runs],
            rotations=tuple(
                rotation for rotation, keep in zip(self.rotations, runs, strict=False) if keep
            ),
            repeats=tuple(self.repeats[i] for i in methods) if self.repeats else (),
        )


@dataclass(frozen=True)
class RunErrors:
    """Errors of methods on runs.

    Attributes
    ----------
    methods : list of str
        In alphabetical order.
    sets : list of SetErrors
        ``errors[i]`` belongs to ``methods[i]``; by data set, in alphabetical order.
    horizons : list of str
        Names of the horizons, as in the file; empty where they differ between sets.
    """

    methods: list[str]
    sets: list[SetErrors]
    horizons: list[str]

    def only(self, methods: Sequence[str]) -> RunErrors:
        """Narrow it down to some of the methods."""
        rows = [self.methods.index(method) for method in methods]
        kept = [data.only(rows, np.ones(len(data.runs), dtype=bool)) for data in self.sets]
        return RunErrors(list(methods), kept, self.horizons)
