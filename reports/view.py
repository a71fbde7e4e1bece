"""A result folder as the sections look at it: tiers apart, methods and tasks in order."""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Iterator, Mapping
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

#: The track of the headline rankings.
MAIN = "main"
#: Of more tasks than these not each has pictures of its own: a page of hundreds nobody opens.
MOST_PICTURED = 12

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
        self._apart: dict[tuple[str, str, str], pd.DataFrame] = {}
        #: Tables, each with its rows at single tasks; a table is kept so that no other has its id.
        self._parts: dict[int, tuple[pd.DataFrame, dict[Any, pd.DataFrame]]] = {}
        self._grouped: dict[tuple[int, int], Mapping[Any, Any]] = {}
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
    def pictured(self) -> list[Task]:
        """The tasks that have pictures of their own: where methods lie furthest apart in weights.

        All of them where they are `MOST_PICTURED` at most.
        """
        if len(self.tasks) <= MOST_PICTURED:
            return self.tasks
        apart = {task: self._spread(task) for task in self.tasks}
        widest = set(sorted(self.tasks, key=lambda task: -apart[task])[:MOST_PICTURED])
        return [task for task in self.tasks if task in widest]

    @property
    def pictured_note(self) -> str:
        """Say of which tasks there are pictures, and why; nothing where it is all."""
        few, all_ = len(self.pictured), len(self.tasks)
        if few == all_:
            return ""
        return (
            f"{few} of {all_} data sets and contexts have pictures of their own: those on which "
            "the methods' median errors in weights lie furthest apart. Tables and maps have all."
        )

    def _spread(self, task: Task) -> float:
        """Return the standard deviation of the logarithms of methods' median errors."""
        errors = [error for _, error in self.medians(task) if 0 < error < math.inf]
        return statistics.pstdev(map(math.log, errors)) if errors else 0.0

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

    def by_dataset(self, board: Leaderboard, track: str = MAIN) -> pd.DataFrame:
        """Rank on each data set of a leaderboard alone; each ranking is taken apart once."""
        key = board.tier, board.metric, track
        if key not in self._apart:
            self._apart[key] = by_dataset(self.results, board, tier=board.tier, track=track)
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
        """Return a tier's rows at a task, of one method if it is named; they are for reading."""
        kept, parts = self._parts.setdefault(id(table), (table, {}))
        place = (task.dataset, task.context, label)
        if place not in parts:
            keys = ["dataset", "context", "label"][: 2 if label is None else 3]
            groups = self._groups(kept, keys)
            parts[place] = kept.take(groups.get(place[: len(keys)], []))
        return parts[place]

    def _groups(self, table: pd.DataFrame, keys: list[str]) -> Mapping[Any, Any]:
        """Return the places of a table's rows by their values of some columns."""
        found = self._grouped.get((id(table), len(keys)))
        if found is None:
            found = table.groupby(keys).indices
            self._grouped[id(table), len(keys)] = found
        return found

    def medians(self, task: Task) -> Iterator[tuple[str, float]]:
        """Yield each method with its median headline error over a task's runs, NaN without one."""
        for label in self.labels:
            rows = self.at(self.weights, task, label)
            yield label, median(rows[self.weight_error(label)][rows["status"] == "ok"])
