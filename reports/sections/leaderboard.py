"""The leaderboards of both tiers as tables and forest plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.horizons import listed, spoken, spoken_metric
from weightcast.bench.results.inference.friedman import Friedman, friedman_runs
from weightcast.bench.results.inference.pairwise import LEVEL
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.figures import Picture
from weightcast.reports.numbers import fixed, plural
from weightcast.reports.plots.critical import critical_plot
from weightcast.reports.plots.forest import LOWEST, forest_plot
from weightcast.reports.tables import Cell, Column, Table, decimal, estimated, key, value, words
from weightcast.reports.view import Ranked, View

_METRICS = {
    "rel_sum": "rel_sum over all horizons and every coordinate",
    "rel_sum_sample": "rel_sum over all horizons and the fixed sample of coordinates",
}

_UP, _DOWN = "high", "low"
_AT_LENGTH = "the same forecast as far along its displacement as the training loss says; 95 %"


@dataclass(frozen=True)
class Standings:
    """One ranking as it is shown: a table and a picture, or a reason for neither."""

    title: str
    table: Table
    picture: Picture | None
    notes: list[str]
    pairs: Table | None = None
    friedman: str = ""
    critical: Picture | None = None


def standings(
    view: View, ranked: Ranked, title: str, name: str, fallback: str, *, best: bool = False
) -> Standings:
    """Lay a ranking out; without one, show the medians of the column ``fallback`` and say why.

    Parameters
    ----------
    view : View
    ranked : Ranked
    title : str
        What is ranked among whom.
    name : str
        Prefix of the picture's ids.
    fallback : str
        ``rel_sum`` or ``train_loss``.
    best : bool
        Whether the table ends with the best possible errors on whole runs, where they are known.
    """
    if ranked.board is None:
        reason = f"Not ranked: {ranked.reason}. The table shows medians over the runs there are."
        return Standings(title, _unranked(view, fallback), None, [reason])
    board = ranked.board
    picture = Picture(
        forest_plot(name, f"Skill with 95 % intervals: {title}", board.ranking, view.looks),
        f"Skill by {_metric(board)}, on {listed(board.datasets)} "
        f"({plural(len(board.ranking.tasks), 'task')}), with 95 % intervals from redrawn runs; "
        f"right of 0 is better than {board.ranking.baseline}. Skills below {fixed(LOWEST, 0)} are "
        "arrows at the edge.",
    )
    table = _ranked_table(view, board)
    if best:
        _add_best_possible(table, view, board)
    if len(board.pairwise.methods) < 2:
        return Standings(title, table, picture, board.notes)
    found = friedman_runs(board.errors.only(board.pairwise.methods), board.ranking.baseline)
    return Standings(
        title,
        table,
        picture,
        board.notes,
        pairs_table(view, board),
        *_critical(view, board, name, found),
    )


def _critical(
    view: View, board: Leaderboard, name: str, found: Friedman | str
) -> tuple[str, Picture | None]:
    """Return what Friedman's test says, and the diagram where it says something."""
    if isinstance(found, str):
        return f"{found[0].upper()}{found[1:]}.", None
    plot = critical_plot(
        f"{name}-critical", f"Mean ranks over {found.of}s: critical differences", found, view.looks
    )
    about = " (so the answer is about further runs of these sets, not about further sets)"
    caption = (
        f"Mean ranks over {found.over}{about * (found.of == 'run')}; 1 is the best. A thick bar "
        "joins methods that Nemenyi's test does not tell apart at 5 %. "
        f"By {_metric(board)}, on {listed(board.datasets)}."
    )
    return f"{found.spoken}.", Picture(plot, caption)


def weights_standings(view: View) -> tuple[list[Standings], Standings | None]:
    """Rank the weights tier.

    Returns
    -------
    headline : list of Standings
        Among all methods and, where both kinds are there, among those that need no other runs.
    complete : Standings or None
        On every coordinate, where the headline is on the sample.
    """
    headline = [standings(view, view.ranked, "All methods", "forest-all", "rel_sum", best=True)]
    alone = view.alone()
    if view.ranked.board and 1 < len(alone) < len(view.labels):
        among = view.rank(only=alone)
        if among.board:
            title = "Methods that need no other runs"
            headline.append(standings(view, among, title, "forest-alone", "rel_sum", best=True))
    complete = None
    if view.ranked.board and view.ranked.board.metric == "rel_sum_sample" and view.whole.board:
        title = "Ranking on every coordinate"
        complete = standings(view, view.whole, title, "forest-complete", "rel_sum", best=True)
    return headline, complete


def _ranked_table(view: View, board: Leaderboard) -> Table:
    several = len({context for _, context in board.medians.columns}) > 1
    leader = board.ranking.standings[0].method
    columns = [
        Column("#", "place by skill", best=_DOWN),
        Column("method", numeric=False),
        Column(
            "skill",
            f"1 − geometric mean of error over {board.ranking.baseline}'s; 95 %",
            best=_UP,
        ),
        Column("rank band", "ranks that cannot be told apart at 5 %, over all pairs", best=_DOWN),
        Column(
            "failed",
            "cells without a result, each charged the worse of the baseline's error and the "
            "method's own worst on that task",
            best=_DOWN,
        ),
        Column(
            "implementation",
            "whose work it is: ours, retrained here, its authors', a library's",
            numeric=False,
        ),
        Column("provenance", "where the method's knowledge comes from", numeric=False),
        Column(
            "IQM",
            f"the skill of the middle half of all runs, against {board.ranking.baseline}",
            best=_UP,
        ),
        *([] if board.at_length is None else [Column("at its best length", _AT_LENGTH, best=_UP)]),
        *(Column(f"at {spoken(label)}", _at(label, board), best=_UP) for label in board.horizons),
        Column(
            "win rate", "share of the other methods beaten, averaged over tasks; 95 %", best=_UP
        ),
        Column("mean rank", best=_DOWN),
        Column(f"error over {leader}'s", "paired, geometric mean over tasks; 95 %", best=_DOWN),
        *(
            Column(
                f"{dataset}, context {context}" if several else str(dataset),
                "median error",
                best=_DOWN,
            )
            for dataset, context in board.medians.columns
        ),
    ]
    table = Table(
        f"Ranked by {_metric(board)}, on {listed(board.datasets)}. Brackets hold 95 % intervals; "
        "the columns named after data sets hold the median over runs with a result; "
        "† says how many failed cells are charged there.",
        columns,
        stacked=True,
    )
    dash = Cell("—")
    failed = _failed(board)
    for place, s in enumerate(board.ranking.standings, 1):
        row = [
            Cell(str(place) if s.method in board.pairwise.methods else "—", str(place)),
            _method(view, s.method),
            estimated(s.skill, signed=True),
            _band(s.method, board),
            Cell(str(s.failures), str(s.failures), "charged" if s.failures else ""),
            words(view.implementation(s.method)),
            words(view.provenance(s.method)),
            estimated(s.middle, signed=True),
            *_at_length(s.method, board),
            *(
                estimated(one, signed=True) if one.known else dash
                for one in board.at_horizons.get(s.method, [Estimate()] * len(board.horizons))
            ),
            estimated(s.win_rate),
            decimal(s.mean_rank, 1),
            estimated(s.ratio),
        ]
        row += _medians(s.method, board, failed)
        table.rows.append(row)
    for u in board.ranking.unranked:
        row = [dash, _method(view, u.method, "not ranked"), dash, dash]
        row += [Cell(f"{u.failures} of {u.cells + u.lacks}", str(u.failures))]
        row += [words(view.implementation(u.method)), words(view.provenance(u.method))]
        row += [dash] * (4 + len(board.horizons) + (board.at_length is not None))
        row += [value(float(amount)) for amount in board.medians.loc[u.method]]
        table.rows.append(row)
    return table


def _failed(board: Leaderboard) -> dict[tuple[str, str, int], int]:
    """Count failed cells by method, data set and context."""
    failed = board.cells[board.cells["status"] != "ok"]
    counts = failed.groupby(["label", "dataset", "context"]).size()
    return {(str(m), str(d), int(c)): int(n) for (m, d, c), n in counts.items()}


def _medians(
    method: str, board: Leaderboard, failed: dict[tuple[str, str, int], int]
) -> list[Cell]:
    """Return a method's median on each task, marked where failed cells were charged beside it."""
    cells = []
    for (dataset, context), found in board.medians.loc[method].items():
        charged = failed.get((method, str(dataset), int(context)), 0)
        cells.append(value(float(found), note=f"† {charged} charged" if charged else ""))
    return cells


def _at_length(method: str, board: Leaderboard) -> list[Cell]:
    """Return a method's skill at its best length, where that was measured."""
    if board.at_length is None:
        return []
    found = board.at_length.skills.get(method, Estimate())
    return [estimated(found, signed=True) if found.known else Cell("—")]


def _band(method: str, board: Leaderboard) -> Cell:
    """Return the ranks that the method may have."""
    if method not in board.pairwise.methods:
        return Cell("—")
    lower, upper = board.pairwise.band(method)
    return Cell(str(lower) if lower == upper else f"{lower}–{upper}", key(lower + upper / 1e3))


def pairs_table(view: View, board: Leaderboard) -> Table:
    """Tabulate every method against every other: runs won, ratio, and whether it is clear."""
    pairs = board.pairwise
    order = [s.method for s in board.ranking.standings if s.method in pairs.methods]
    places = [pairs.methods.index(method) for method in order]
    table = Table(
        "Share of runs in which the row's method has the lower error than the column's, the mean "
        "over data sets; beside it the row's error over the column's. A star: Wilcoxon's "
        "signed-rank test over runs, data sets joined by Stouffer's method, adjusted by Holm's "
        f"over all pairs, is below 5 %. By {_metric(board)}, on {listed(board.datasets)}.",
        [Column("method", numeric=False), *(Column(method) for method in order)],
    )
    for row, method in zip(places, order, strict=True):
        cells = [_method(view, method)]
        for column in places:
            if row == column:
                cells.append(Cell("—"))
                continue
            won = pairs.won[row, column]
            star = "*" if pairs.p[row, column] < LEVEL else ""
            ratio = fixed(float(pairs.ratio[row, column]))
            cells.append(Cell(f"{won:.0%}{star}", key(float(won)), ratio))
        table.rows.append(cells)
    return table


def _metric(board: Leaderboard) -> str:
    said = _METRICS.get(board.metric)
    return said or f"the real network's {spoken_metric(board.metric, board.horizons)}"


def _at(label: str, board: Leaderboard) -> str:
    where = "the last horizon" if label == "last" else f"horizon {spoken(label)}"
    sampled = ", on every coordinate" if board.metric.endswith("_sample") else ""
    return f"skill at {where} alone{sampled}; 95 %"


def _add_best_possible(table: Table, view: View, board: Leaderboard) -> None:
    """End a ranking with what cannot be beaten but by luck, on data sets whose truth is known."""
    errors = [
        view.best_possible(str(dataset), int(context), board.metric)
        for dataset, context in board.medians.columns
    ]
    if all(error is None for error in errors):
        return
    # What float32 rounds away is no error.
    shown = [error if error is None else round(error, 6) for error in errors]
    blank = [Cell("")] * (len(table.columns) - len(errors) - 2)
    name = words("best possible", note="no method: knows the truth")
    table.foot.append([Cell(""), name, *blank, *(value(error) for error in shown)])


def _unranked(view: View, column: str) -> Table:
    rows = view.weights
    said = "Median error over the runs with a result, over all horizons."
    if column != "rel_sum":
        rows, column = view.function, f"{column}_last"
        said = f"Median {column} over the runs with a result, at the last horizon."
    table = Table(
        said,
        [
            Column("method", numeric=False),
            Column("provenance", "where the method's knowledge comes from", numeric=False),
            *(Column(task.title, "median, number of runs") for task in view.tasks),
        ],
    )
    for label in view.labels:
        name = column
        if column == "rel_sum" and label in view.sampled:
            name = "rel_sum_sample"
        row = [_method(view, label), words(view.provenance(label))]
        row += [_median_cell(view.at(rows, task, label), name) for task in view.tasks]
        table.rows.append(row)
    return table


def _median_cell(rows: Any, column: str) -> Cell:
    from weightcast.reports.numbers import median, number, values

    ok = rows[rows["status"] == "ok"]
    if column not in ok.columns:
        return Cell(number(None))
    amount, runs = median(ok[column]), len(values(ok[column]))
    return Cell(number(amount), key(amount), plural(runs, "run") if runs else "")


def _method(view: View, label: str, *more: str) -> Cell:
    notes = [*more]
    notes += ["reference"] if label in view.results.references else []
    notes += ["on the sample"] if label in view.sampled else []
    return words(label, note=", ".join(notes), colour=view.looks[label].colour)
