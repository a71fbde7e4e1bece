"""Leaderboards of a result folder, or of any CSV with the columns ``method,task,error``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.results import Results
from weightcast.bench.statistics import Ranking, SetErrors, rank_runs, rank_tasks
from weightcast.datasets import InputError
from weightcast.datasets.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "last-value"
DEFAULT_METRIC = {"weights": "rel_sum", "function": "train_loss_last"}
CSV_COLUMNS = (
    "method", "skill", "skill_lower", "skill_upper", "win_rate", "win_rate_lower",
    "win_rate_upper", "mean_rank", "failures",
)  # fmt: skip

# Metrics that are positive and better when smaller, so that ratios to a baseline mean something.
_RATIO_METRICS = ("rel_", "mae", "rmse", "train_loss_", "test_loss_")


@dataclass(frozen=True)
class Leaderboard:
    """A ranking and what it ranks.

    Attributes
    ----------
    ranking : Ranking
    tier, metric : str
    notes : list of str
        What a reader must know: a coordinate sample, methods left out, data sets not ranked.
    medians : DataFrame
        Median error a method and task, methods in the ranking's order.
    """

    ranking: Ranking
    tier: str
    metric: str
    notes: list[str]
    medians: pd.DataFrame


def rank_results(
    results: Results,
    *,
    tier: str = "weights",
    metric: str | None = None,
    baseline: str = BASELINE,
    only: list[str] | None = None,
) -> Leaderboard:
    """Rank a result folder's methods.

    Parameters
    ----------
    results : Results
    tier : str
    metric : str, optional
        By default the tier's headline. In the weights tier that is `rel_sum`; with a method among
        them that ran on the coordinate sample only, it is `rel_sum_sample`, for all of them.
    baseline : str
    only : list of str, optional
        Labels of the methods to rank.

    Raises
    ------
    InputError
        If the tier, the metric or the baseline is unknown.
    """
    cells = results.cells
    tiers = sorted(set(cells["tier"]))
    if tier not in tiers:
        raise unknown("tier", tier, tiers)
    cells = cells[cells["tier"] == tier]
    if only is not None:
        cells = cells[cells["label"].isin([*only, baseline])]
    notes = []
    ok = cells[cells["status"] == "ok"]
    sampled = sorted(set(ok["label"][ok["rel_sum"].isna() & ok["rel_sum_sample"].notna()]))
    chosen = metric or DEFAULT_METRIC[tier]
    if tier == "weights" and metric is None and sampled:
        chosen = "rel_sum_sample"
        notes.append(
            f"{', '.join(sampled)} ran on a fixed random sample of coordinates, so all methods are "
            "ranked on that sample; the metric rel_sum ranks the others on every coordinate"
        )
    usable = [
        name
        for name in cells.columns
        if name.startswith(_RATIO_METRICS)
        and not name.endswith("_origin")
        and cells[name].notna().any()
    ]
    if chosen not in usable:
        raise unknown(f"metric of the {tier} tier", chosen, usable)
    if tier == "weights" and not chosen.endswith("_sample") and sampled:
        cells = cells[~cells["label"].isin(sampled)]
        notes.append(f"{', '.join(sampled)}: no result on every coordinate, left out")
    methods = sorted(set(cells["label"]))
    sets = []
    for dataset, part in cells.groupby("dataset", sort=True):
        contexts = tuple(int(c) for c in sorted(set(part["context"])))
        runs = tuple(int(r) for r in sorted(set(part["run"])))
        values = part.assign(error=part[chosen].where(part["status"] == "ok"))
        table = values.pivot_table(
            index=["label", "context"], columns="run", values="error", dropna=False
        )
        errors = np.stack(
            [
                table.reindex(index=[(m, c) for c in contexts], columns=list(runs)).to_numpy(float)
                for m in methods
            ]
        )
        counts = part.groupby(["label", "context"])["run"].nunique()
        ran = np.array([[counts.get((m, c), 0) > 0 for c in contexts] for m in methods])
        notes += [
            f"{method} was not run on {dataset}, context {context}: it counts as {baseline} there"
            for method, row in zip(methods, ran, strict=True)
            for context, here in zip(contexts, row, strict=True)
            if not here
        ]
        sets.append(SetErrors(str(dataset), contexts, runs, errors, ran))
    ranking = rank_runs(methods, sets, baseline)
    notes += ranking.left_out
    order = [standing.method for standing in ranking.standings]
    medians = (
        cells[cells["status"] == "ok"]
        .groupby(["label", "dataset", "context"])[chosen]
        .median()
        .unstack(["dataset", "context"])
        .reindex(order)
    )
    return Leaderboard(ranking, tier, chosen, notes, medians)


def rank_csv(path: Path, baseline: str | None = None) -> Ranking:
    """Rank the methods of a CSV file with the columns ``method,task,error``.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has two errors for one method and task.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from None
    lacking = {"method", "task", "error"} - set(table.columns)
    if lacking:
        raise InputError(
            f"{path} lacks the column {', '.join(sorted(lacking))}; "
            "it needs method,task,error with a header line"
        )
    if table.empty:
        raise InputError(f"{path} has no rows")
    table = table.astype({"method": str, "task": str})
    twice = table[table.duplicated(["method", "task"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"{path} has two errors for {row['method']} on {row['task']}")
    error_values = pd.to_numeric(table["error"], errors="coerce")
    bad = table[(error_values < 0) | (error_values.isna() & table["error"].notna())]
    if len(bad):
        raise InputError(
            f"{path}: error '{bad.iloc[0]['error']}' of {bad.iloc[0]['method']} on "
            f"{bad.iloc[0]['task']} is not a number of at least 0"
        )
    table = table.assign(error=error_values)
    wide = table.pivot_table(index="method", columns="task", values="error", dropna=False)
    methods = [str(name) for name in wide.index]
    if baseline is None:
        baseline = BASELINE if BASELINE in methods else methods[0]
    return rank_tasks(methods, wide.to_numpy(float), [str(t) for t in wide.columns], baseline)


def ranking_table(ranking: Ranking) -> pd.DataFrame:
    """Return the ranking as the table that ``--csv`` writes."""
    import pandas as pd

    return pd.DataFrame(
        [{name: getattr(s, name) for name in CSV_COLUMNS} for s in ranking.standings]
    )
