"""A leaderboard taken apart: by data set, by part of the network, by context and horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.horizons import AT_HORIZONS, horizon_labels, spoken
from weightcast.bench.results.leaderboard import (
    Leaderboard,
    lay_out,
    rank_results,
    rank_sets,
    skills_at,
)
from weightcast.bench.results.tables import Results
from weightcast.bench.scoring.breakdown import DEPTH, DEPTHS, KIND
from weightcast.datasets import InputError
from weightcast.datasets.admission.gates import FEWEST_RUNS
from weightcast.datasets.trajectory import KINDS

if TYPE_CHECKING:
    import pandas as pd

#: What a network can be taken apart by: the beginning of the metrics' names, and the parts.
PARTS = {"kind": (KIND, KINDS), "depth": (DEPTH, DEPTHS)}


def by_dataset(results: Results, board: Leaderboard, **options: Any) -> pd.DataFrame:
    """Rank on each task of a leaderboard alone.

    Parameters
    ----------
    results : Results
    board : Leaderboard
        Says what is ranked: methods in its order, its metric, its data sets.
    **options
        What `rank_results` was given for it, but the metric and the data sets.

    Returns
    -------
    DataFrame
        A row a method, data set and context: ``method,dataset,context,metric,error`` (the median
        over runs), ``runs,failures,skill,skill_lower,skill_upper``, and the same of each horizon at
        which the metric is told (``skill_h5`` and so on) and at the best length (``skill_length``),
        where that was measured. Intervals redraw that set's runs.
    """
    import pandas as pd

    order = [s.method for s in board.ranking.standings]
    rows = []
    for dataset in sorted({str(name) for name, _ in board.medians.columns}):
        for context in sorted({int(c) for name, c in board.medians.columns if name == dataset}):
            part = results.only(dataset, context)
            try:
                alone = rank_results(part, metric=board.metric, datasets=[dataset], **options)
            except InputError:  # too few runs to rank there
                continue
            runs = part.cells.loc[part.cells["tier"] == board.tier, "run"].nunique()
            for s in alone.ranking.standings:
                told = alone.at_horizons.get(s.method, [])
                row = {
                    "method": s.method,
                    "dataset": dataset,
                    "context": context,
                    "metric": board.metric,
                    "error": float(alone.medians.loc[s.method].iloc[0]),
                    "runs": runs,
                    "failures": s.failures,
                    **s.skill.columns("skill"),
                }
                for label, estimate in zip(alone.horizons, told, strict=False):
                    row |= estimate.columns(f"skill_{label}")
                if alone.at_length is not None:
                    best = alone.at_length.skills.get(s.method, Estimate())
                    row |= best.columns("skill_length")
                rows.append(row)
    place = {method: number for number, method in enumerate(order)}
    rows.sort(
        key=lambda row: (row["dataset"], row["context"], place.get(row["method"], len(place)))
    )
    return pd.DataFrame(rows)


def terminal_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Lay the table out for the terminal: a row a method, a column a task."""
    several = table["context"].nunique() > 1
    rows: dict[str, dict[str, Any]] = {}
    names = []
    for one in table.to_dict("records"):
        name = f"{one['dataset']}, {one['context']}" if several else str(one["dataset"])
        if name not in names:
            names.append(name)
        rows.setdefault(one["method"], {"method": one["method"]})[name] = _said(one)
    return [
        {"method": method, **{name: row.get(name, "—") for name in names}}
        for method, row in rows.items()
    ]


def by_part(board: Leaderboard, by: str) -> pd.DataFrame:
    """Rank by the error of each part of the networks, on the data sets that have such a part.

    Parameters
    ----------
    board : Leaderboard
        Of the weights tier, on every coordinate: says what cells are ranked.
    by : str
        One of `PARTS`.

    Returns
    -------
    DataFrame
        A row a method and part, in the board's order: ``method``, ``kind`` or ``depth``,
        ``datasets`` (those that have the part), ``metric``, ``error`` (the geometric mean over
        tasks of the median over runs), ``failures``, ``skill``, ``skill_lower``, ``skill_upper``.

    Raises
    ------
    InputError
        If no network here has parts to tell apart.
    """
    import pandas as pd

    begin, parts = PARTS[by]
    cells, rows = board.cells, []
    for part in parts:
        metric = f"{begin}{part}"
        if metric not in cells.columns:
            continue
        here = cells[cells["dataset"].isin(cells.loc[cells[metric].notna(), "dataset"])]
        about = {
            by: part,
            "datasets": ", ".join(sorted(set(here["dataset"]))),
            "metric": metric,
        }
        rows += [{**about, **found} for found in _ranked(here, metric, board)]
    if not rows:
        raise InputError(
            f"nothing ranked here has errors by {by} on {FEWEST_RUNS} runs"
            + "; its networks have layers of one depth alone" * (by == "depth")
        )
    table = pd.DataFrame(rows)
    table.insert(0, "method", table.pop("method"))
    return _in_order(table, board)


def _ranked(cells: pd.DataFrame, metric: str, board: Leaderboard) -> Iterator[dict[str, Any]]:
    """Yield each method's error and skill by one metric; nothing where there are too few runs."""
    methods = sorted(set(cells["label"]))
    try:
        ranking = rank_sets(methods, lay_out(cells, [metric], methods), board.ranking.baseline)
    except InputError:
        return
    errors = _errors(cells, metric)
    for s in ranking.standings:
        yield {
            "method": s.method,
            "error": errors.get(s.method, np.nan),
            "failures": s.failures,
            **s.skill.columns("skill"),
        }


def by_horizon(board: Leaderboard) -> pd.DataFrame:
    """Rank at each context and horizon alone.

    Returns
    -------
    DataFrame
        A row a method, context and horizon, in the board's order: ``method``, ``context``,
        ``horizon``, ``metric``, ``error``, ``skill``, ``skill_lower``, ``skill_upper``; of methods
        that run on the sample alone there are none.

    Raises
    ------
    InputError
        If the metric is not told at single horizons, or not defined there on some runs.
    """
    import pandas as pd

    if not board.horizons:
        told = ", ".join(name for name in AT_HORIZONS if "length" not in name)
        raise InputError(f"{board.metric} is not told at single horizons; {told} are")
    baseline, rows = board.ranking.baseline, []
    for context, cells in board.cells.groupby("context"):
        labels = horizon_labels(cells, board.metric)
        metrics = [f"{AT_HORIZONS[board.metric]}_{label}" for label in labels]
        methods = sorted(set(cells["label"]))
        skills = skills_at(cells, board.metric, labels, methods, baseline)
        errors = [_errors(cells, metric) for metric in metrics]
        rows += [
            {
                "method": method,
                "context": int(context),
                "horizon": spoken(label),
                "metric": metric,
                "error": error.get(method, np.nan),
                **skill.columns("skill"),
            }
            for method, own in skills.items()
            for label, metric, error, skill in zip(labels, metrics, errors, own, strict=True)
        ]
    if not rows:  # runs that hardly move by one of the horizons have no error there
        raise InputError(
            f"{board.metric} is not defined at single horizons here, by which some runs hardly move"
        )
    return _in_order(pd.DataFrame(rows), board)


def _errors(cells: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return each method's error: the geometric mean over tasks of the median over runs."""
    ok = cells[cells["status"] == "ok"]
    medians = ok.groupby(["label", "dataset", "trained_on", "context"])[metric].median().dropna()
    logs = np.log(medians.clip(lower=np.finfo(float).tiny))
    return {
        str(label): float(value) for label, value in np.exp(logs.groupby("label").mean()).items()
    }


def _in_order(table: pd.DataFrame, board: Leaderboard) -> pd.DataFrame:
    """Sort rows by their methods' places in a ranking, and leave the rest as it is."""
    place = {s.method: number for number, s in enumerate(board.ranking.standings)}
    order = table["method"].map(place).fillna(len(place))
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def part_rows(table: pd.DataFrame, by: str) -> list[dict[str, Any]]:
    """Lay `by_part` out for the terminal: a row a method, a column a part."""
    return _wide(table, ["method"], by, {part: part for part in table[by]})


def part_notes(table: pd.DataFrame, by: str, datasets: Sequence[str]) -> list[str]:
    """Say which parts are not on all of a ranking's data sets."""
    sets = table.drop_duplicates(by).groupby("datasets", sort=False)[by].agg(", ".join)
    return [
        f"{parts}: on {names} alone"
        for names, parts in sets.items()
        if len(str(names).split(", ")) < len(datasets)
    ]


def horizon_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Lay `by_horizon` out for the terminal: a row a method and context, a column a horizon."""
    at = {horizon: f"at {horizon}" for horizon in table["horizon"]}
    return _wide(table, ["method", "context"], "horizon", at)


def _wide(
    table: pd.DataFrame, rows: Sequence[str], by: str, columns: dict[str, str]
) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in table.to_dict("records"):
        key = tuple(one[name] for name in rows)
        blank = dict(zip(rows, key, strict=True)) | dict.fromkeys(columns.values(), "—")
        found.setdefault(key, blank)[columns[one[by]]] = _said(one)
    return list(found.values())


def _said(row: dict[str, Any]) -> str:
    return f"{row['skill']:+.3f} [{row['skill_lower']:+.3f}, {row['skill_upper']:+.3f}]"
