"""A leaderboard taken apart: each method's skill on each data set and context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.leaderboard import Leaderboard, rank_results
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError

if TYPE_CHECKING:
    import pandas as pd


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
        said = f"{one['skill']:+.3f} [{one['skill_lower']:+.3f}, {one['skill_upper']:+.3f}]"
        rows.setdefault(one["method"], {"method": one["method"]})[name] = said
    return [
        {"method": method, **{name: row.get(name, "—") for name in names}}
        for method, row in rows.items()
    ]
