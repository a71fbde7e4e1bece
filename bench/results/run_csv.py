"""Errors run by run, as a table: what a ranking with run-level intervals is computed from.

A line is the error of one method on one run of a task, by one of its fits and at one horizon.
`weightcast leaderboard` ranks such a file exactly as the result folder that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.results.inference.errors import RunErrors, SetErrors
from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ErrorLine:
    """A line of a file; an ``error`` of NaN is a result that the method lacks."""

    number: int
    method: str
    task: str
    error: float
    run: str = ""
    dataset: str = ""
    rotation: str = ""
    fit: str = ""
    horizon: str = ""

    @property
    def of_set(self) -> str:
        """The data set whose runs are redrawn together."""
        return self.dataset or self.task

    @property
    def identity(self) -> tuple[str, ...]:
        """What no two lines share."""
        return self.method, self.of_set, self.task, self.run, self.fit, self.horizon


def from_lines(path: Path, lines: Sequence[ErrorLine]) -> RunErrors:
    """Arrange lines as arrays; their order does not matter.

    Parameters
    ----------
    path : Path
        Named in messages.
    lines : sequence of ErrorLine
        What a method has no line for is a result that it lacks.

    Raises
    ------
    InputError
        If a run is tested in two rotations.
    """
    methods = sorted({line.method for line in lines})
    by_set: dict[str, list[ErrorLine]] = {}
    for line in lines:
        by_set.setdefault(line.of_set, []).append(line)
    sets, horizons = [], []
    for name in sorted(by_set):
        sets.append(_set_errors(path, name, by_set[name], methods))
        horizons.append(_in_order(line.horizon for line in by_set[name]))
    alike = all(one == horizons[0] for one in horizons)
    return RunErrors(methods, sets, horizons[0] if alike else [])


def _set_errors(path: Path, name: str, lines: list[ErrorLine], methods: list[str]) -> SetErrors:
    tasks, runs = _in_order(a.task for a in lines), _in_order(a.run for a in lines)
    horizons = _in_order(line.horizon for line in lines)
    fits = {method: _in_order(a.fit for a in lines if a.method == method) for method in methods}
    most = max(len(own) for own in fits.values())
    errors = np.full((len(methods), len(tasks), len(horizons), len(runs), most), np.nan)
    for line in lines:
        place = (
            methods.index(line.method),
            tasks.index(line.task),
            horizons.index(line.horizon),
            runs.index(line.run),
            fits[line.method].index(line.fit),
        )
        errors[place] = line.error
    rotations = _rotations(path, lines)
    known = _in_order(rotations.values())
    return SetErrors(
        name,
        tuple(range(len(tasks))),
        tuple(range(len(runs))),
        errors,
        rotations=tuple(known.index(rotations[run]) for run in runs),
        # A method without a line here lacks one result a run.
        repeats=tuple(max(1, len(fits[method])) for method in methods),
        names=tuple(tasks),
    )


def _rotations(path: Path, lines: Iterable[ErrorLine]) -> dict[str, str]:
    """Return the rotation that tests each run."""
    found: dict[str, ErrorLine] = {}
    for line in lines:
        other = found.setdefault(line.run, line)
        if other.rotation != line.rotation:
            raise InputError(
                f"{path}, line {line.number}: run {line.run!r} is tested in rotation "
                f"{line.rotation!r}, and in {other.rotation!r} by line {other.number}; a run is "
                "tested in one"
            )
    return {run: line.rotation for run, line in found.items()}


def _in_order(names: Iterable[str]) -> list[str]:
    """Return each name once, whole numbers by their size.

    Examples
    --------
    >>> _in_order(["10", "last", "5", "10"])
    ['5', '10', 'last']
    """
    return sorted(set(names), key=lambda name: (len(name), name))


def run_table(errors: RunErrors, tier: str, metric: str) -> pd.DataFrame:
    """Return errors as a table, a row a method, task, run, fit and horizon.

    Failed cells have an empty error. ``tier`` and ``metric`` say what the errors are.
    """
    import pandas as pd

    rows = []
    for data in errors.sets:
        rotations = data.rotations or (0,) * len(data.runs)
        for method, own in zip(errors.methods, data.by_method(), strict=True):
            for (task, horizon, run, fit), error in np.ndenumerate(own):
                rows.append(
                    (
                        method, data.tasks[task], data.dataset, data.runs[run], rotations[run],
                        fit, errors.horizons[horizon], tier, metric, error,
                    )
                )  # fmt: skip
    names = (
        "method", "task", "dataset", "run", "rotation", "fit", "horizon", "tier", "metric", "error",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=list(names))
