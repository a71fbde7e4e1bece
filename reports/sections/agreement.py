"""Whether the order of methods in weights says what their order in function is, by horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightcast.bench.results.gains import (
    ALIKE,
    FEWEST,
    GainCorrelation,
    Gains,
    all_gains,
    gain_correlations,
)
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import LABELS, spoken
from weightcast.reports.figures import CLIP, Picture
from weightcast.reports.numbers import fixed, interval, median, number, plural
from weightcast.reports.plots.agreement import Gain, agreement_plot
from weightcast.reports.plots.correlation import correlation_map
from weightcast.reports.tables import Cell, Column, Table, key, words
from weightcast.reports.view import Task, View

# As in the leaderboard's skill.
_LEAST, _MOST = 0.01, 100.0
_SPOKEN = {"all": "all methods", "beating": "methods that beat the last value in weights"}


@dataclass(frozen=True)
class Agreement:
    """What the report says of both tiers together."""

    pictures: list[Picture]
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
    gained = all_gains(view.results)
    found = gain_correlations(view.results, gained)
    titles = {(task.dataset, task.context): task.title for task in tasks}
    found = [one for one in found if (one.dataset, one.context) in titles]
    pictures = [
        picture
        for among in _SPOKEN
        if (picture := _map([one for one in found if one.among == among], titles, among))
    ]
    if scatter := _scatter(view, tasks):
        pictures.append(scatter)
    return Agreement(pictures, _table(gained, found, titles), _said(found))


def _map(
    found: Sequence[GainCorrelation], titles: dict[tuple[str, int], str], among: str
) -> Picture | None:
    horizons = [label for label in LABELS if any(one.horizon == label for one in found)]
    rows = list(dict.fromkeys(titles[one.dataset, one.context] for one in found))
    svg = correlation_map(
        f"correlation-{among}",
        f"Rank correlation of gains over {_SPOKEN[among]}, data sets by horizons",
        rows,
        horizons,
        {(titles[one.dataset, one.context], one.horizon): one for one in found},
    )
    if svg is None:
        return None
    counts = [len(one.methods) for one in found if one.rho.known]
    return Picture(
        svg,
        f"Over {_SPOKEN[among]} ({min(counts)} to {max(counts)} of them). +1 where the order in "
        "weights is the order in function, −1 where it is turned round; a star where permuted "
        f"methods correlate as much in fewer than 5 % of cases; — for fewer than {FEWEST} methods.",
        f"{_SPOKEN[among][0].upper()}{_SPOKEN[among][1:]}",
    )


def _table(
    gained: Sequence[Gains],
    found: Sequence[GainCorrelation],
    titles: dict[tuple[str, int], str],
) -> Table:
    alike = {f"{one} ({other})" for each in gained for one, other in each.alike.items()}
    twins = (
        f" Counted once with another that they equal: {', '.join(sorted(alike))}." if alike else ""
    )
    table = Table(
        "Spearman's rank correlation, over methods, of the gain in weights (median relative error) "
        "with the gain in function (median train loss over the last value's), at one horizon. "
        "Brackets: 95 %, runs and methods redrawn. p: methods permuted, two-sided. Methods that "
        f"agree within {ALIKE - 1:.0%} in every run, horizon and tier count once.{twins}",
        [
            Column("data set", numeric=False),
            Column("horizon"),
            *(
                column
                for among in _SPOKEN.values()
                for column in (Column(among, "Spearman's rho, 95 %, methods"), Column("p"))
            ),
        ],
    )
    pairs: dict[tuple[str, str], list[GainCorrelation]] = {}
    for one in found:
        pairs.setdefault((titles[one.dataset, one.context], one.horizon), []).append(one)
    for (title, horizon), both in pairs.items():
        row = [words(title), words(spoken(horizon))]
        for one in both:
            row += [_cell(one), Cell(number(one.p), key(one.p))]
        table.rows.append(row)
    return table


def _cell(one: GainCorrelation) -> Cell:
    methods = plural(len(one.methods), "method")
    if not one.rho.known:
        return Cell("—", "", f"{methods}, too few")
    said = fixed(one.rho.value, signed=True)
    return Cell(said, key(one.rho.value), f"{interval(one.rho, signed=True)}, {methods}")


def _scatter(view: View, tasks: Sequence[Task]) -> Picture | None:
    """Draw every method and data set as a point, at the last horizon."""
    # The last value is where the dashed lines cross.
    points = [p for task in tasks for p in gains(view, task) if p.label != BASELINE]
    svg = agreement_plot(
        "agreement",
        "Gain in function against gain in weights, a point a method and data set",
        points,
        view.looks,
    )
    if svg is None:
        return None
    hollow = any(max(p.weights, p.function) > CLIP for p in points) or any(
        min(p.weights, p.function) < 1 / CLIP for p in points
    )
    return Picture(
        svg,
        f"{plural(len(points), 'point')}, one a method and data set. Both axes are factors "
        "against the last observed weights: right of 1 is nearer in weights over all horizons, "
        "above 1 has the lower train loss at the last horizon."
        + (f" Hollow marks lie beyond a factor of {CLIP:g}." if hollow else ""),
        "Each method, at the last horizon",
    )


def gains(view: View, task: Task) -> list[Gain]:
    """Return each measured method's gains over the last value, in loss at the last horizon."""
    base = _medians(view, task, BASELINE)
    found = []
    for label in view.labels:
        error, loss = _medians(view, task, label)
        gain = Gain(label, task.title, _factor(base[0], error), _factor(base[1], loss))
        if math.isfinite(gain.weights) and math.isfinite(gain.function):
            found.append(gain)
    return found


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


def _said(found: Sequence[GainCorrelation]) -> str:
    """Say in a sentence how the orders agree, horizon by horizon."""
    said = []
    for label in LABELS:
        known = [
            one for one in found if one.horizon == label and one.among == "all" and one.rho.known
        ]
        if not known:
            continue
        low = min(one.rho.value for one in known)
        high = max(one.rho.value for one in known)
        sure = [one for one in known if one.p < 0.05]
        both = fixed(low, signed=True)
        if len(known) > 1 and fixed(high, signed=True) != both:
            both += f" to {fixed(high, signed=True)}"
        where = "the last horizon" if label == "last" else f"horizon {spoken(label)}"
        said.append(
            f"at {where} {both} ({plural(len(known), 'data set')}, clearly not 0 on {len(sure)})"
        )
    if not said:
        return "There are too few methods for a rank correlation."
    return f"Spearman's rank correlation over all methods is {'; '.join(said)}."
