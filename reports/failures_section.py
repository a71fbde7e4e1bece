"""Cells without a result, grouped by what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weightcast.reports.privacy import without_folders


@dataclass(frozen=True)
class Failure:
    """Cells of one method and task that failed in the same way."""

    label: str
    dataset: str
    context: int
    tier: str
    status: str
    reason: str
    runs: list[int]
    traceback: str


def failed_cells(failures: Sequence[dict[str, Any]]) -> int:
    """Count failed cells; a cell that failed in both tiers is one."""
    return len({(f["label"], f["dataset"], f["context"], f["run"]) for f in failures})


def group_failures(failures: Sequence[dict[str, Any]]) -> list[Failure]:
    """Group failed rows by method, data set, context, tiers, status and reason."""
    tiers: dict[tuple[Any, ...], list[str]] = {}
    traces: dict[tuple[Any, ...], str] = {}
    for row in failures:
        place = tuple(row[k] for k in ("label", "dataset", "context", "run", "status"))
        cell = (*place, without_folders(row["reason"] or ""))
        tiers.setdefault(cell, []).append(row["tier"])
        traces.setdefault(cell, without_folders(row["traceback"] or ""))
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for cell, where in tiers.items():
        label, dataset, context, run, status, reason = cell
        both = " and ".join(sorted(where, reverse=True))
        group = (label, dataset, context, both, status, reason)
        groups.setdefault(group, []).append((run, traces[cell]))
    found = []
    for group, members in sorted(groups.items(), key=lambda item: tuple(map(str, item[0]))):
        runs = sorted(run for run, _ in members)
        found.append(Failure(*group, runs, members[0][1]))
    return found
