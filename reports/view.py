"""A result folder as the sections look at it: tiers apart, methods and tasks in order."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weightcast.bench.loop.costs import label_of
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.results.apart import by_dataset
from weightcast.bench.results.cells import OWN
from weightcast.bench.results.leaderboard import Leaderboard, rank_results
from weightcast.bench.results.tables import Results
from weightcast.bench.scoring.best_possible import best_possible
from weightcast.datasets import InputError
from weightcast.reports.loop_view import LoopView
from weightcast.reports.numbers import median
from weightcast.reports.palette import Look, looks

if TYPE_CHECKING:
    import pandas as pd

#: Methods that need nothing but the run they forecast.
ALONE = ("zero-shot", "own-run-only")


@dataclass(frozen=True)
class Task:
    """One data set at one context."""

    dataset: str
    context: int
    title: str


@dataclass(frozen=True)
class Ranked:
    """A leaderboard, or the reason why there is none."""

    board: Leaderboard | None
    reason: str = ""


class View:
    """Results with what several sections need of them.

    Parameters
    ----------
    results : Results
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self._ranked: dict[str, Ranked] = {}
        self._apart: dict[tuple[str, str], pd.DataFrame] = {}
        cells = results.cells
        #: Cells of whole runs, without the shift tracks: what all sections but one are about.
        self.cells = cells = cells[(cells["split"] == WHOLE) & cells["track"].isin(OWN)]
        self.weights = cells[cells["tier"] == "weights"]
        self.function = cells[cells["tier"] == "function"]
        pairs = cells[["label", "method"]].drop_duplicates()
        self.method_names: dict[str, str] = dict(zip(pairs["label"], pairs["method"], strict=True))
        ok = self.weights[self.weights["status"] == "ok"]
        on_sample = ok["label"][ok["rel_sum"].isna() & ok["rel_sum_sample"].notna()]
        #: Methods that ran on the coordinate sample only.
        self.sampled: set[str] = set(on_sample) - set(ok["label"][ok["rel_sum"].notna()])

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Colour, marker and dash of each method, of all tiers."""
        return looks([*self.method_names, *{label_of(row) for row in self.results.loops}])

    @cached_property
    def loop(self) -> LoopView | None:
        """The loop tier's runs; None where there are none."""
        return LoopView(self.results.loops, self.looks) if self.results.loops else None

    @cached_property
    def tasks(self) -> list[Task]:
        """Data sets and contexts, in order."""
        cells = self.cells
        several = cells["context"].nunique() > 1
        pairs = sorted(set(zip(cells["dataset"], cells["context"].astype(int), strict=True)))
        return [
            Task(dataset, context, f"{dataset}, context {context}" if several else dataset)
            for dataset, context in pairs
        ]

    @cached_property
    def ranked(self) -> Ranked:
        """The headline ranking of the weights tier."""
        return self.rank()

    @cached_property
    def whole(self) -> Ranked:
        """The weights tier on every coordinate: the headline, where that is not on the sample."""
        board = self.ranked.board
        if board is not None and board.metric == "rel_sum":
            return self.ranked
        return self.rank(metric="rel_sum")

    @cached_property
    def labels(self) -> list[str]:
        """Every method, best first; those that are not ranked follow by name."""
        board = self.ranked.board
        order = [s.method for s in board.ranking.standings] if board else []
        return order + [label for label in sorted(self.method_names) if label not in order]

    def rank(self, **options: Any) -> Ranked:
        """Rank, or say why not; each ranking is made when it is first asked for."""
        key = repr(sorted(({"tier": "weights"} | options).items()))
        if key not in self._ranked:
            try:
                self._ranked[key] = Ranked(rank_results(self.results, **options))
            except InputError as error:
                self._ranked[key] = Ranked(None, str(error))
        return self._ranked[key]

    def by_dataset(self, board: Leaderboard) -> pd.DataFrame:
        """Rank on each data set of a leaderboard alone; each tier is ranked once."""
        key = board.tier, board.metric
        if key not in self._apart:
            self._apart[key] = by_dataset(self.results, board, tier=board.tier)
        return self._apart[key]

    def provenance(self, label: str) -> str:
        """Where a method's knowledge comes from; ``?`` where nothing was kept of it."""
        facts = self.results.facts.get(label)
        return facts.provenance if facts else "?"

    def implementation(self, label: str) -> str:
        """Whose work a method's row is; ``?`` where nothing was kept of it."""
        facts = self.results.facts.get(label)
        return facts.implementation if facts else "?"

    def alone(self) -> list[str]:
        """List the methods that need no other runs."""
        return [label for label in self.labels if self.provenance(label) in ALONE]

    def weight_error(self, label: str) -> str:
        """Name the column of a method's headline error: on every coordinate, or on the sample."""
        return "rel_sum_sample" if label in self.sampled else "rel_sum"

    def best_possible(self, dataset: str, context: int, metric: str) -> float | None:
        """Return the best possible median error over the whole runs that are in the results.

        None where it is not known, or for another metric than `rel_sum`, sampled or not.
        """
        if metric not in ("rel_sum", "rel_sum_sample"):
            return None
        rows = self.at(self.weights, Task(dataset, context, dataset))
        runs = tuple(sorted({int(run) for run in rows["run"][rows["split"] == WHOLE]}))
        sample = self._suite().get("sample") if metric == "rel_sum_sample" else None
        return best_possible(dataset, context, runs, sample)

    def _suite(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.results.suite_toml)
        except tomllib.TOMLDecodeError:
            return {}

    def at(self, table: pd.DataFrame, task: Task, label: str | None = None) -> pd.DataFrame:
        """Return a tier's rows at a task, of one method if it is named."""
        chosen = (table["dataset"] == task.dataset) & (table["context"] == task.context)
        if label is not None:
            chosen &= table["label"] == label
        return table[chosen]

    def medians(self, task: Task) -> Iterator[tuple[str, float]]:
        """Yield each method with its median headline error over a task's runs, NaN without one."""
        for label in self.labels:
            rows = self.at(self.weights, task, label)
            yield label, median(rows[self.weight_error(label)][rows["status"] == "ok"])
