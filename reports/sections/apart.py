"""Skills taken apart: by kind of tensor, from input to output, by context and horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.apart import by_horizon, by_part, part_notes
from weightcast.bench.results.horizons import listed
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.datasets import InputError
from weightcast.reports.figures import Picture
from weightcast.reports.numbers import fixed
from weightcast.reports.plots.shaded import Shade, shaded_map
from weightcast.reports.tables import Cell, Column, Table, estimated, words
from weightcast.reports.view import View

if TYPE_CHECKING:
    import pandas as pd

_ROW = 24.0
_BY = {"kind": "kind of tensor", "depth": "depth"}
_WHERE = {
    "kind": "",
    "depth": " The input is the layers in the first quarter of the way through a network, the "
    "output those in the last.",
}
_ERRORS = {"weights": "the error over the distance moved", "function": "the train loss"}


@dataclass(frozen=True)
class Apart:
    """Pictures, with a table that has their intervals."""

    pictures: list[Picture]
    tables: list[Table]


def parts(view: View) -> Apart | None:
    """Show skills in weights on each part of the networks; None where there is nothing to tell."""
    board = view.whole.board
    shown: list[tuple[Picture, Table]] = []
    for by, spoken in _BY.items():
        try:
            table = by_part(board, by) if board else None
        except InputError:
            continue
        if board is None or table is None or table[by].nunique() < 2:
            continue
        title = f"Skill in weights by {spoken}"
        where = "; ".join([listed(board.datasets), *part_notes(table, by, board.datasets)])
        caption = (
            f"Skill by rel_sum over the coordinates of each part, all horizons, against "
            f"{board.ranking.baseline}, on {where}.{_WHERE[by]}"
        )
        rows = table.to_dict("records")
        shown.append(
            (
                _picture(f"by-{by}", title, caption, rows, by, spoken, f"By {spoken}"),
                _table(view, table, by, caption),
            )
        )
    return Apart([one for one, _ in shown], [one for _, one in shown]) if shown else None


def horizons(view: View, board: Leaderboard | None) -> list[Picture]:
    """Draw one tier's skills at each context and horizon: where forecasting beats the baseline."""
    try:
        table = by_horizon(board) if board else None
    except InputError:
        return []
    if board is None or table is None:
        return []
    contexts = table["context"].unique()
    found = []
    for context, part in table.groupby("context"):
        heading = f"{board.tier}, context {context}" if len(contexts) > 1 else board.tier
        caption = (
            f"Skill by {_ERRORS[board.tier]} at single horizons, context {context}, against "
            f"{board.ranking.baseline}, on {listed(board.datasets)}."
        )
        rows = part.to_dict("records")
        name = f"at-horizon-{board.tier}-{context}"
        title = f"Skill in {heading} by horizon"
        found.append(_picture(name, title, caption, rows, "horizon", "horizon", heading))
    return found


def _picture(
    name: str,
    title: str,
    caption: str,
    rows: list[dict[str, Any]],
    by: str,
    across: str,
    heading: str,
) -> Picture:
    shades = {
        (row["method"], row[by]): Shade(fixed(row["skill"], signed=True), row["skill"])
        for row in rows
    }
    methods, columns = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", by))
    return Picture(
        shaded_map(name, title, methods, columns, shades, across, _ROW), caption, heading
    )


def _table(view: View, found: pd.DataFrame, by: str, caption: str) -> Table:
    columns = list(found[by].unique())
    table = Table(
        f"{caption} Brackets hold 95 % intervals.",
        [Column("method", numeric=False), *map(Column, columns)],
    )
    for method, part in found.groupby("method", sort=False):
        own = part.set_index(by)
        cells = [words(str(method), colour=view.looks[str(method)].colour)]
        for column in columns:
            if column not in own.index:
                cells.append(Cell("—"))
                continue
            row = own.loc[column]
            skill = Estimate(row["skill"], row["skill_lower"], row["skill_upper"])
            cells.append(estimated(skill, signed=True))
        table.rows.append(cells)
    return table
