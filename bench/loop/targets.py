"""Targets of the loop tier: levels that tuned plain training has reached at a share of the budget.

They are set on plain runs of seeds that serve for nothing else, so that neither choosing a
configuration nor scoring it can profit from where a target lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightcast.bench.loop.curves import KINDS, RAW, Doubles, arrival, curve, sustained
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.loop_settings import NO_FORECAST

#: By a target's name, the share of the budget by which calibration runs are there; hard is primary.
SHARES = {"hard": 0.5, "easy": 0.25}
#: Share of the calibration runs that are there by then.
_REACHED = 0.95
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Target:
    """A level to reach.

    Attributes
    ----------
    kind : str
        ``"train_loss"`` or ``"test_accuracy"``.
    name : str
        ``"hard"`` or ``"easy"``.
    level : float
    reached, runs : int
        How many of all calibration runs, of every configuration, reach it within the budget.
    """

    kind: str
    name: str
    level: float
    reached: int = 0
    runs: int = 0


def calibrated(rows: Sequence[LoopRow], budget: float) -> dict[tuple[str, str], Target]:
    """Set one data set's targets, by kind and name.

    For each optimizer the plain configuration (learning rate and schedule) with the lowest mean of
    log final train loss counts, among those with every calibration seed. A level is what at least
    95 % of these runs' raw curves have reached, an accuracy to stay, at the share of the budget.

    Parameters
    ----------
    rows : sequence of LoopRow
        Of one data set; what is no calibration run of plain training is passed over.
    budget : float
        Steps of a run.

    Returns
    -------
    dict
        Empty where there are no calibration runs; without the targets whose share of the budget
        ends before the first measurement.
    """
    plain = [r for r in rows if r["seed_role"] == "calibration" and r["method"] == NO_FORECAST]
    best = _best_runs(plain)
    found = {}
    for name, share in SHARES.items():
        for kind in KINDS:
            level = _level(best, kind, share * budget)
            if level is not None:
                ok = [row for row in plain if row["status"] == "ok"]
                reached = sum(arrival(row, kind, level) is not None for row in ok)
                found[kind, name] = Target(kind, name, level, reached, len(plain))
    return found


def _best_runs(plain: Sequence[LoopRow]) -> list[LoopRow]:
    """Return the runs of each optimizer's best configuration."""
    seeds = {row["seed"] for row in plain}
    groups: dict[str, dict[tuple[str, float], dict[int, LoopRow]]] = {}
    for row in plain:
        configurations = groups.setdefault(row["optimizer"], {})
        where = row["schedule"], row["learning_rate"]
        configurations.setdefault(where, {})[row["seed"]] = row
    best: list[LoopRow] = []
    for configurations in groups.values():
        scores = {
            where: float(np.mean([final_log_loss(row) for row in runs.values()]))
            for where, runs in sorted(configurations.items())
            if set(runs) == seeds
        }
        first = min(scores, key=lambda where: scores[where], default=None)
        if first is not None and np.isfinite(scores[first]):
            best += configurations[first].values()
    return best


def final_log_loss(row: LoopRow, window: int = RAW) -> float:
    """Return the logarithm of a run's last train loss; inf where it failed or diverged."""
    _, losses = curve(row, "train_loss", window)
    if row["status"] != "ok" or not len(losses) or not np.isfinite(losses[-1]):
        return np.inf
    return float(np.log(max(losses[-1], _TINY)))


def _level(runs: Sequence[LoopRow], kind: str, step: float) -> float | None:
    """Return the level that enough of the runs have reached by a step."""
    if not runs:
        return None
    by_then = []
    for row in runs:
        steps, values = curve(row, kind)
        if kind == "test_accuracy":
            values = sustained(values)
        # The start says nothing about training, even where nothing else was measured by then.
        here: Doubles = values[(steps > 0) & (steps <= step + 1e-9) & np.isfinite(values)]
        if not len(here):
            return None
        by_then.append(float(here.min() if kind == "train_loss" else here.max()))
    ordered = sorted(by_then, reverse=kind == "test_accuracy")
    return ordered[math.ceil(_REACHED * len(ordered) - 1e-9) - 1]
