"""The same methods on parts of a run, fitted on few runs, or fitted here and tested there."""

from __future__ import annotations

from weightcast.bench.plan.place import WHOLE, Place
from weightcast.bench.results.cells import OWN
from weightcast.reports.tables import Cell, Column, Table, estimated, words
from weightcast.reports.view import View

_WHAT = {
    "early": "first half of each run",
    "middle": "middle half of each run",
    "late": "second half of each run",
    "shift-optimizer": "fitted on runs of another optimizer",
    "shift-architecture": "fitted on runs of another network",
    "shift-cadence": "fitted on runs with closer snapshots",
    "shift-task": "fitted on runs on other data",
}


def shift_table(view: View) -> Table | None:
    """Tabulate skill by window, number of training runs and shift track; None where there is none.

    Whole runs stand beside them.
    """
    cells = view.results.cells
    there = {(str(t), str(s)) for t, s in zip(cells["track"], cells["split"], strict=True)}
    places = sorted(there - {(track, WHOLE) for track in OWN}, key=_order)
    if not places:
        return None
    columns = [*sorted(there & {("main", WHOLE)}), *places]
    boards = {place: view.rank(track=place[0], split=place[1]).board for place in columns}
    table = Table(
        "Skill in weights, over the tasks of each column, with 95 % intervals. Compare methods "
        "within a column: the columns' tasks differ.",
        [Column("method", numeric=False)]
        + [
            Column(
                "whole runs" if place == ("main", WHOLE) else _title(place),
                _what(place),
            )
            for place in columns
        ],
        stacked=True,
    )
    for label in view.labels:
        row = [words(label, colour=view.looks[label].colour)]
        for place in columns:
            board = boards[place]
            found = [s for s in board.ranking.standings if s.method == label] if board else []
            row.append(estimated(found[0].skill, signed=True) if found else Cell("—"))
        table.rows.append(row)
    return table


def _order(place: tuple[str, str]) -> tuple[int, int, str]:
    """Windows first, then numbers of training runs, then shifts."""
    track, split = place
    names = list(_WHAT)
    count = _train_runs(split)
    if count is not None:
        return names.index("late"), count, track
    return names.index(split if split in _WHAT else track), 0, track


def _what(place: tuple[str, str]) -> str:
    track, split = place
    count = _train_runs(split)
    if count is not None:
        return f"fitted on {count} training run" + "s" * (count > 1)
    return _WHAT.get(split) or _WHAT.get(track, "")


def _train_runs(split: str) -> int | None:
    return Place("", "", split=split).train_runs


def _title(place: tuple[str, str]) -> str:
    track, split = place
    if split != WHOLE:
        return split if track == "main" else f"{track}, {split}"
    return track.removeprefix("shift-")
