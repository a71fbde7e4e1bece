"""Skills data set by data set, from the smallest network to the largest."""

from __future__ import annotations

import math
from collections.abc import Iterator

from weightcast.bench.results.horizons import spoken, spoken_metric
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.figures import Picture, slug
from weightcast.reports.numbers import count, fixed
from weightcast.reports.plots.shaded import Shade, shaded_map
from weightcast.reports.view import View

#: Over fewer data sets nothing can be said of size.
FEWEST = 4
_ROW = 24.0
#: Letters of a name that have room above each other.
_LETTERS = 12


def sizes(view: View, board: Leaderboard | None) -> list[Picture]:
    """Draw one tier's skills on each data set, by the number of its coordinates.

    Parameters
    ----------
    view : View
    board : Leaderboard, optional
        The tier's headline ranking.

    Returns
    -------
    list of Picture
        Over all horizons of the metric, at the first and the last of those that stand alone, and at
        best lengths where they were measured; none with fewer than `FEWEST` data sets.
    """
    if board is None or len(board.datasets) < FEWEST:
        return []
    table = view.by_dataset(board)
    if table.empty:
        return []
    found = table.to_dict("records")
    several = table["context"].nunique() > 1
    sized = _coordinates(board)
    order = sorted({(sized[row["dataset"]], row["dataset"], row["context"]) for row in found})
    heads = {
        (name, context): _head(name, size) + f"\ncontext {context}" * several
        for size, name, context in order
    }
    pictures = []
    for column, said in _columns(board, set(table.columns)):
        shades = {
            (row["method"], heads[row["dataset"], row["context"]]): Shade(
                fixed(row[column], signed=True), row[column]
            )
            for row in found
            if not math.isnan(row[column])
        }
        methods = list(dict.fromkeys(row["method"] for row in found))
        heading = f"{board.tier}, {said}"
        svg = shaded_map(
            slug("sizes", board.tier, column),
            f"Skill in {heading}, by data set",
            methods,
            list(heads.values()),
            shades,
            "data set and its coordinates, ascending",
            _ROW,
        )
        caption = (
            f"Skill by {_by(board, column)} on each data set alone, against "
            f"{board.ranking.baseline}; {_runs(found)}."
        )
        pictures.append(Picture(svg, caption, heading))
    return pictures


def _columns(board: Leaderboard, there: set[str]) -> Iterator[tuple[str, str]]:
    yield "skill", "all horizons of the ranking"
    alone = [label for label in board.horizons if f"skill_{label}" in there]
    for label in dict.fromkeys([*alone[:1], *alone[-1:]]):
        yield f"skill_{label}", f"at {spoken(label)}"
    if "skill_length" in there:
        yield "skill_length", "at best length"


def _by(board: Leaderboard, column: str) -> str:
    if column == "skill":
        return spoken_metric(board.metric, board.horizons)
    if column == "skill_length":
        return f"{spoken_metric(board.metric, board.horizons)}, each forecast at its best length"
    label = column.removeprefix("skill_")
    where = "the last horizon" if label == "last" else f"horizon {spoken(label)}"
    return f"{board.metric} at {where}"


def _coordinates(board: Leaderboard) -> dict[str, int]:
    """Return each data set's coordinates: the most that a forecast of it had."""
    most = board.cells.groupby("dataset")["coordinates"].max().fillna(0)
    return {str(name): int(size) for name, size in most.items()}


def _head(name: str, size: int) -> str:
    """Break a data set's name for a narrow column, at its dashes, and put its coordinates below."""
    lines = [""]
    for part in name.split("-"):
        joined = f"{lines[-1]}-{part}" if lines[-1] else part
        if len(joined) <= _LETTERS:
            lines[-1] = joined
        else:
            lines.append(part)
    return "\n".join([*filter(None, lines), count(size)])


def _runs(found: list[dict[str, int]]) -> str:
    runs = sorted({row["runs"] for row in found})
    each = str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    return f"{each} runs each"
