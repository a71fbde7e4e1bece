"""Leaderboards of a CSV file of errors, ``method,task,error``, with or without a column ``run``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.inference.errors import RunErrors
from weightcast.bench.results.inference.pairwise import Pairwise
from weightcast.bench.results.inference.ranking import Ranking, horizon_skills, rank_tasks
from weightcast.bench.results.leaderboard import (
    compare_pairs,
    rank_sets,
    ranking_table,
)
from weightcast.bench.results.task_csv import read_errors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FileBoard:
    """A ranking of a file.

    Attributes
    ----------
    ranking : Ranking
        Intervals redraw runs where there are any, else tasks.
    horizons : list of str
        ``h5`` and so on where errors at several horizons are told, the same on all data sets.
    at_horizons : dict of str to list of Estimate
        Method → its skill at each of them.
    pairwise : Pairwise or None
        Where there are runs.
    errors : RunErrors or None
        Where there are runs.
    """

    ranking: Ranking
    horizons: list[str] = field(default_factory=list)
    at_horizons: dict[str, list[Estimate]] = field(default_factory=dict)
    pairwise: Pairwise | None = None
    errors: RunErrors | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The table that ``--csv`` writes."""
        return ranking_table(self.ranking, self.horizons, self.at_horizons, self.pairwise)


def rank_csv(path: Path, baseline: str | None = None) -> FileBoard:
    """Rank the methods of a CSV file.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, has a line that does not fit, or too few runs.
    """
    found = read_errors(path)
    if baseline is None:
        baseline = BASELINE if BASELINE in found.methods else found.methods[0]
    if isinstance(found, RunErrors):
        return _rank_runs(found, baseline)
    return FileBoard(rank_tasks(found.methods, found.errors, found.tasks, baseline))


def _rank_runs(found: RunErrors, baseline: str) -> FileBoard:
    several = len(found.horizons) > 1
    return FileBoard(
        rank_sets(found.methods, found.sets, baseline),
        [f"h{name}" if name.isdecimal() else name for name in found.horizons] if several else [],
        horizon_skills(found.methods, found.sets, baseline) if several else {},
        compare_pairs(found.methods, found.sets, baseline),
        found,
    )
