"""Cells and loop runs without a result, grouped by what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weightcast.bench.loop.costs import label_of
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.privacy import without_folders
from weightcast.bench.results.cells import OWN, PLACE
from weightcast.reports.numbers import count

_CELL = ("label", *PLACE, "run", "repeat")

_MEANING = {
    "failed": "the method raised an exception",
    "invalid": "the forecast, or the network's loss with it, is not finite or has a wrong shape",
    "timeout": "a fit or a cell took longer than --timeout",
    "out-of-memory": "the worker went over --max-memory, or memory could not be had",
    "crashed": "the worker's process ended by itself",
}

#: Statuses whose traceback is where the worker's threads were when it ended.
_ENDED = ("timeout", "out-of-memory", "crashed")


@dataclass(frozen=True)
class Failure:
    """Cells of one method and task that failed in the same way.

    Attributes
    ----------
    task : str
    tier : str
        One, or both.
    runs : list of int or str
        Their seeds; in the loop tier with the learning rate.
    traceback : str
        Of the first of the runs.
    """

    label: str
    task: str
    tier: str
    status: str
    reason: str
    runs: list[int] | list[str]
    traceback: str

    @property
    def trace_name(self) -> str:
        """What the traceback is: an exception's, or the stack of a worker that was ended."""
        return "stack of the worker" if self.status in _ENDED else "traceback"


@dataclass(frozen=True)
class StatusCount:
    """How many cells have a status, and what it means."""

    count: str
    status: str
    meaning: str


def failed_cells(failures: Sequence[dict[str, Any]]) -> int:
    """Count failed cells; a cell that failed in both tiers is one."""
    return len(_statuses(failures))


def failed_loops(loops: Sequence[LoopRow]) -> list[LoopRow]:
    """Return the loop tier's runs without a result."""
    return [row for row in loops if row["status"] != "ok"]


def count_statuses(
    failures: Sequence[dict[str, Any]], loops: Sequence[LoopRow] = ()
) -> list[StatusCount]:
    """Count failed cells and loop runs by status, the most frequent first."""
    counts = Counter(_statuses(failures).values())
    counts.update(row["status"] for row in failed_loops(loops))
    return [
        StatusCount(count(number), status, _MEANING.get(status, ""))
        for status, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def group_failures(failures: Sequence[dict[str, Any]]) -> list[Failure]:
    """Group failed rows by method, task, tiers, status and reason."""
    tiers: dict[tuple[Any, ...], list[str]] = {}
    traces: dict[tuple[Any, ...], str] = {}
    for row in failures:
        cell = (
            *(row[k] for k in _CELL), row["status"], without_folders(row["reason"] or "")
        )  # fmt: skip
        tiers.setdefault(cell, []).append(row["tier"])
        traces.setdefault(cell, without_folders(row["traceback"] or ""))
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for cell, where in tiers.items():
        label, *task, run, _, status, reason = cell
        both = " and ".join(sorted(where, reverse=True))
        group = (label, _task(*task), both, status, reason)
        groups.setdefault(group, []).append((run, traces[cell]))
    found = []
    for group, members in sorted(groups.items(), key=lambda item: item[0]):
        members.sort()
        runs = list(dict.fromkeys(run for run, _ in members))  # once, however many fits failed
        found.append(Failure(*group, runs, members[0][1]))
    return found


def group_loop_failures(loops: Sequence[LoopRow]) -> list[Failure]:
    """Group the loop tier's failed runs by method, data set, optimizer, status and reason."""
    groups: dict[tuple[str, ...], list[tuple[float, float, int, str]]] = {}
    for row in failed_loops(loops):
        task = f"{row['dataset']}, {row['optimizer']}, {row['schedule']}"
        reason = without_folders(row["reason"] or "")
        group = (label_of(row), task, "loop", row["status"], reason)
        trace = without_folders(row["traceback"] or "")
        groups.setdefault(group, []).append(
            (row["learning_rate"], row["length"], row["seed"], trace)
        )
    found = []
    for (label, task, tier, status, reason), members in sorted(groups.items()):
        members.sort()
        runs = [
            f"{seed} at {rate:g}" + (f", length {length:g}" if length != 1 else "")
            for rate, length, seed, _ in members
        ]
        found.append(Failure(label, task, tier, status, reason, runs, members[0][3]))
    return found


def _statuses(failures: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Return each failed cell's status: the weights tier's, where it failed in both."""
    found: dict[tuple[Any, ...], str] = {}
    for row in sorted(failures, key=lambda row: row["tier"], reverse=True):
        found.setdefault(tuple(row[k] for k in _CELL), row["status"])
    return found


def _task(dataset: str, trained_on: str, track: str, split: str, context: int) -> str:
    name = dataset if trained_on == dataset else f"{trained_on} → {dataset}"
    name += "" if track in OWN else f" ({track})"
    name += "" if split == WHOLE else f" ({split})"
    return f"{name}, context {context}"
