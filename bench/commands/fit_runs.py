"""The runs that a method is fitted on before it forecasts one's own, and what they must be.

They are of the run's network and at its cadence, they reach as far as the forecast, and none of
them holds what is to be forecast. What does not fit is refused in the words of whoever named it:
every message has the paths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets import InputError, Trajectory
from weightcast.datasets.trajectory import BLOCK_BYTES, block_ranges

#: Coordinates of each tensor that tell snapshots apart before they are compared whole.
_PROBE = 1000


@dataclass(frozen=True)
class NamedRun:
    """A run and the path that it was named by."""

    path: Path
    run: Trajectory

    @cached_property
    def probes(self) -> list[str]:
        """A hash of each snapshot's first coordinates."""
        return [_probe(self.run, index) for index in range(self.run.n_snapshots)]


def sides(others: Sequence[NamedRun]) -> tuple[Sequence[NamedRun], Sequence[NamedRun]]:
    """Cut the fit runs into training and validation runs; a single one is both."""
    if len(others) < 2:
        return others, others
    held_out = max(1, len(others) // 4)
    return others[:-held_out], others[-held_out:]


def check_fit_runs(own: NamedRun, others: Sequence[NamedRun], n: int, horizon: int) -> None:
    """Hold the fit runs to the run's network and cadence, and to being other runs than it.

    Raises
    ------
    InputError
        If a forecast of the run from its snapshot n must not, or cannot, learn from one of them.
    """
    if not others:
        return
    _check_named_once([own.path, *(other.path for other in others)])
    for other in others:
        _check_tensors(own, other)
        _check_length(other, n, horizon)
        _check_cadence(own, others[0], other, n, horizon)
    _check_content(own, others)


def _check_named_once(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        real = Path(os.path.realpath(path))
        if real in seen:
            raise InputError(f"{seen[real]} and {path} are the same run; name each run once")
        seen[real] = path


def _check_tensors(own: NamedRun, other: NamedRun) -> None:
    mine, theirs = ({t.name: t.shape for t in r.run.tensors} for r in (own, other))
    for name, shape in mine.items():
        if name not in theirs:
            raise InputError(f"{other.path} has no tensor {name}, which {own.path} has")
        if theirs[name] != shape:
            raise InputError(
                f"{other.path}: tensor {name} has shape {list(theirs[name])}, but {list(shape)} in "
                f"{own.path}"
            )
    for name in theirs:
        if name not in mine:
            raise InputError(f"{other.path} has a tensor {name}, which {own.path} lacks")


def _check_length(other: NamedRun, n: int, horizon: int) -> None:
    count, needed = other.run.n_snapshots, n + horizon + 1
    if count < needed:
        at_most = count - 1 - n
        mend = f"shorten --horizon to {at_most} or " if at_most >= 1 else ""
        raise InputError(
            f"{other.path} has {count} snapshots, but context {n} and horizon {horizon} need "
            f"{needed}; {mend}name longer runs"
        )


def _check_cadence(own: NamedRun, first: NamedRun, other: NamedRun, n: int, horizon: int) -> None:
    """Hold a fit run to the first fit run as far as it is used, and to the run in the context."""
    theirs, spacing = (np.diff(r.run.steps[: n + horizon + 1]) for r in (first, other))
    mend = "record or import the runs at one cadence"
    if not np.array_equal(theirs, spacing):
        raise _other_cadence(first.path, theirs, other.path, spacing, mend)
    mine = np.diff(own.run.steps[: n + 1])
    if not np.array_equal(mine, spacing[:n]):
        if n > 1 and np.array_equal(mine[:-1], spacing[: n - 1]):
            mend = f"--context {n - 1} leaves the last snapshot out"
        raise _other_cadence(own.path, mine, other.path, spacing, mend)


def _other_cadence(
    one: Path, first: NDArray[np.int64], other: Path, second: NDArray[np.int64], mend: str
) -> InputError:
    return InputError(
        f"{one} has a snapshot {cadence(first)}, {other} {cadence(second)}: what is learned at "
        f"one cadence does not hold at another; {mend}"
    )


def cadence(spacing: NDArray[np.int64]) -> str:
    """Say how far apart snapshots are.

    Examples
    --------
    >>> cadence(np.array([45, 45])), cadence(np.array([1, 4, 20]))
    ('every 45 steps', 'every 1 to 20 steps')
    """
    low, high = int(spacing.min()), int(spacing.max())
    return f"every {low:,} steps" if low == high else f"every {low:,} to {high:,} steps"


def _check_content(own: NamedRun, others: Sequence[NamedRun]) -> None:
    """Refuse a fit run that has weights in common with the run, other than a shared start.

    A fit run that is a copy, or that goes on from the run, holds what is to be forecast.
    """
    for other in others:
        if (found := share_weights(own, other)) is not None:
            mine, theirs = found
            raise InputError(
                f"{own.path} at step {own.run.steps[mine]} and {other.path} at step "
                f"{other.run.steps[theirs]} have the same weights: they share content, and the "
                "one must not be learned from to forecast the other; leave it out of --fit"
            )


def share_weights(one: NamedRun, other: NamedRun) -> tuple[int, int] | None:
    """Return a snapshot of each run with the same weights, other than a shared start.

    The runs have the same tensors.
    """
    probes: dict[str, int] = {}
    for index, probe in enumerate(one.probes):
        probes.setdefault(probe, index)
    for index, probe in enumerate(other.probes):
        found = probes.get(probe)
        if found is None or found == index == 0:
            continue
        if _same_weights(one.run, found, other.run, index):
            return found, index
    return None


def _probe(run: Trajectory, index: int) -> str:
    """Hash a snapshot's first coordinates: snapshots that differ in it are not the same."""
    digest = sha256()
    for name in sorted(info.name for info in run.tensors):
        info = run.tensor_info(name)
        digest.update(run.read(info, [index], 0, min(_PROBE, info.size)).tobytes())
    return digest.hexdigest()


def _same_weights(run: Trajectory, index: int, other: Trajectory, other_index: int) -> bool:
    return all(
        np.array_equal(
            run.read(info, [index], start, stop),
            other.read(other.tensor_info(info.name), [other_index], start, stop),
        )
        for info, start, stop in block_ranges(run.tensors, 1, BLOCK_BYTES)
    )
