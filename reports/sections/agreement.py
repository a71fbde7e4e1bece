"""Whether the order of methods in weights says what their order in function is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightcast.bench.results.leaderboard import BASELINE
from weightcast.reports.figures import CLIP, Picture
from weightcast.reports.numbers import fixed, median, plural
from weightcast.reports.plots.agreement import Gain, agreement_plot
from weightcast.reports.plots.function import Outcome, rank_correlation
from weightcast.reports.tables import Cell, Column, Table, key, words
from weightcast.reports.view import Task, View

#: Of fewer methods a rank correlation says next to nothing.
FEWEST = 5
# As in the leaderboard's skill.
_LEAST, _MOST = 0.01, 100.0


@dataclass(frozen=True)
class Agreement:
    """What the report says of both tiers together."""

    picture: Picture | None
    table: Table
    takeaway: str


def agreement(view: View, tasks: Sequence[Task]) -> Agreement:
    """Lay both tiers' gains out against each other.

    Parameters
    ----------
    view : View
    tasks : sequence of Task
        Those with measured networks.
    """
    found = {task: gains(view, task) for task in tasks}
    table = Table(
        "Spearman's rank correlation, over methods, of the gain in weights (median error) with the "
        "gain in function (median train loss at the last horizon): +1 where the order in weights "
        f"is the order in function. Of fewer than {FEWEST} methods it says next to nothing.",
        [
            Column("data set", numeric=False),
            Column("methods that beat the last value", "those with a median error below its"),
            Column("all methods"),
        ],
    )
    correlations, listed = [], []
    for task, points in found.items():
        beating = [gain for gain in points if gain.weights > 1]
        table.rows.append([words(task.title), _cell(beating), _cell(points)])
        correlations.append((correlation(beating), len(beating), correlation(points)))
        among, every = _cell(beating), _cell(points)
        listed.append(f"{task.title} {every.text} ({every.note}) and {among.text} ({among.note})")
    # The last value is where the dashed lines cross.
    everything = [p for points in found.values() for p in points if p.label != BASELINE]
    svg = agreement_plot(
        "agreement",
        "Gain in function against gain in weights, a point a method and data set",
        everything,
        view.looks,
    )
    picture = None
    if svg is not None:
        hollow = any(max(p.weights, p.function) > CLIP for p in everything) or any(
            min(p.weights, p.function) < 1 / CLIP for p in everything
        )
        picture = Picture(
            svg,
            f"{plural(len(everything), 'point')}, one a method and data set. Both axes are factors "
            "against the last observed weights: right of 1 is nearer in weights, above 1 has the "
            "lower train loss at the last horizon. "
            + (f"Hollow marks lie beyond a factor of {CLIP:g}. " if hollow else "")
            + "Rank correlations over all methods and over those that beat the last value: "
            + "; ".join(listed)
            + ".",
        )
    return Agreement(picture, table, _said(correlations))


def gains(view: View, task: Task) -> list[Gain]:
    """Return each measured method's gains on a task over the last value."""
    base = _medians(view, task, BASELINE)
    found = []
    for label in view.labels:
        error, loss = _medians(view, task, label)
        gain = Gain(label, _factor(base[0], error), _factor(base[1], loss))
        if math.isfinite(gain.weights) and math.isfinite(gain.function):
            found.append(gain)
    return found


def correlation(points: Sequence[Gain]) -> float:
    """Return Spearman's rank correlation of the two gains; NaN for fewer than three methods."""
    return rank_correlation([Outcome(p.label, 1 / p.weights, 1 / p.function) for p in points])


def _medians(view: View, task: Task, label: str) -> tuple[float, float]:
    weights = view.at(view.weights, task, label)
    function = view.at(view.function, task, label)
    error = median(weights[view.weight_error(label)][weights["status"] == "ok"])
    if "train_loss_last" not in function:
        return error, math.nan
    return error, median(function["train_loss_last"][function["status"] == "ok"])


def _factor(base: float, own: float) -> float:
    if not (math.isfinite(base) and math.isfinite(own)) or base <= 0 or own < 0:
        return math.nan
    return float(np.clip(base / own, _LEAST, _MOST)) if own else _MOST


def _cell(points: Sequence[Gain]) -> Cell:
    rho = correlation(points)
    few = ", too few" if len(points) < FEWEST else ""
    return Cell(fixed(rho, signed=True), key(rho), f"n = {len(points)}{few}")


def _said(correlations: Sequence[tuple[float, int, float]]) -> str:
    """Say in a sentence how the orders agree."""
    every = [rho for _, _, rho in correlations if not math.isnan(rho)]
    among = [rho for rho, n, _ in correlations if not math.isnan(rho) and n >= FEWEST]
    if not every:
        return "There are too few methods for a rank correlation."
    said = f"Spearman's rank correlation over all methods is {_range(every)}"
    if not among:
        return (
            f"{said}; nowhere do {FEWEST} methods beat the last value in weights, so among such "
            "nothing can be said."
        )
    return (
        f"{said}; over the methods that beat the last value in weights, where they are {FEWEST} or "
        f"more, {_range(among)} ({plural(len(among), 'data set')})."
    )


def _range(found: Sequence[float]) -> str:
    low, high = fixed(min(found), signed=True), fixed(max(found), signed=True)
    return low if low == high else f"{low} to {high}"
