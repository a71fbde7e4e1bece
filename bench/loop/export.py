"""The loop tier's runs as rows of `weightcast export`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weightcast.bench.loop.costs import budget_of, data_set_costs
from weightcast.bench.loop.curves import (
    accepted_share,
    arrival,
    average_prefix,
    jumps_of,
    windows_of,
)
from weightcast.bench.loop.targets import calibrated
from weightcast.bench.plan.loop_row import LoopRow

if TYPE_CHECKING:
    import pandas as pd

#: What a run's row is identified by, as a cell's is.
_IDENTITY = ("suite", "dataset", "method", "params", "status", "reason")
#: What is exported as it is stored.
_STORED = (
    "learning_rate", "length", "horizon", "momentum", "seed_role", "optimizer", "schedule",
    "accept", "use", "step_seconds", "forward_seconds", "fit_seconds", "fit_steps", "jobs",
    "threads",
)  # fmt: skip


def loop_table(rows: Sequence[LoopRow]) -> pd.DataFrame:
    """Tabulate runs, one a row, in the order in which they are given.

    Steps to a target are empty where a run never reaches it, or where the data set has no such
    target. Step-equivalents count the forecaster's seconds too, and stand for scored runs alone.

    Parameters
    ----------
    rows : sequence of LoopRow
        As in `weightcast.bench.results.tables.Results.loops`.
    """
    import pandas as pd

    steps = _steps(rows)
    found = []
    for row, reached in zip(rows, steps, strict=True):
        known: dict[str, Any] = dict(row)
        found.append(
            {name: known[name] for name in _IDENTITY}
            | {"tier": "loop", "run": row["seed"]}
            | {name: known[name] for name in _STORED}
            | reached
            | {"harmful_jumps": harmful_share([row])}
            | {"accepted_jumps": accepted_share(jumps_of(row))}
        )
    return pd.DataFrame(found)


def harmful_share(rows: Sequence[LoopRow]) -> float:
    """Return the share of runs' jumps after which the train loss was higher; NaN without jumps."""
    changes = [
        jump["after"] - jump["before"]
        for row in rows
        for jump in jumps_of(row)
        if jump["before"] is not None and jump["after"] is not None
    ]
    return float(np.mean(np.asarray(changes) > 0)) if changes else np.nan


def _steps(rows: Sequence[LoopRow]) -> list[dict[str, Any]]:
    """Return each run's steps, and step-equivalents, to every target by every read-out."""
    by_data_set: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_data_set.setdefault(row["dataset"], []).append(index)
    found: list[dict[str, Any]] = [{} for _ in rows]
    for dataset, indices in by_data_set.items():
        here = [rows[index] for index in indices]
        budget = budget_of(here)
        index_of = {id(rows[index]): index for index in indices}
        for (kind, name), target in calibrated(here, budget).items():
            windows = sorted({w for row in here for w in windows_of(row, "tuned")})
            columns = {w: f"{average_prefix(w)}steps_to_{name}_{kind}" for w in windows}
            for index in indices:
                row = rows[index]
                for window in windows_of(row, "tuned"):
                    at = arrival(row, kind, target.level, window) if _usable(row) else None
                    found[index][columns[window]] = at.step if at else np.nan
                    found[index][_equivalents(columns[window])] = np.nan
            costs = data_set_costs(dataset, here, target, "tuned", budget)
            for table in costs.tables.values():
                for where, row in table.rows.items():
                    if table.reached[where]:
                        column = columns[table.configurations[where[0]].window]
                        found[index_of[id(row)]][_equivalents(column)] = float(table.cost[where])
    return found


def _equivalents(column: str) -> str:
    return column.replace("steps_to", "step_equivalents_to")


def _usable(row: LoopRow) -> bool:
    return bool(row["status"] == "ok")
