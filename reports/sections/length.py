"""What is left of each method's gain in function where every forecast has its best length."""

from __future__ import annotations

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.at_length import CONTROL, AtLength
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import listed, spoken
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.tables import Cell, Column, Table, amount, estimated, value, words
from weightcast.reports.view import View


def length_takeaway(board: Leaderboard) -> str:
    """Say what each method's direction is worth beside the control's, both at their best lengths.

    Parameters
    ----------
    board : Leaderboard
        With ``at_length``.
    """
    found = _found(board)
    if not found.control:
        return (
            f"Without {CONTROL} among the methods nothing says what a direction is worth beside "
            "the one that every run has."
        )
    own = next(s.skill for s in board.ranking.standings if s.method == found.control)
    best = found.skills[found.control]
    at = listed([spoken(label) for label in board.horizons])
    where = f"over the horizons {at}, " if board.horizons else ""
    said = [
        f"By {board.metric.replace('_', ' ')}, {where}on {listed(board.datasets)}, "
        f"{found.control}, which goes along w_n − w_0, has a skill of "
        f"{fixed(own.value, signed=True)}, and {fixed(best.value, signed=True)} "
        f"{interval(best, signed=True)} at its best length. "
        "What is left of the others’ gains beside it, all at their best lengths:"
    ]
    groups: dict[str, list[str]] = {}
    for method in _order(board):
        if method in found.beyond and method not in (found.control, board.ranking.baseline):
            left = found.beyond[method]
            groups.setdefault(_fate(left), []).append(f"{method} {fixed(left.value, signed=True)}")
    parts = [f"{', '.join(groups[fate])} {fate}" for fate in _FATES if fate in groups]
    return f"{said[0]} {'; '.join(parts) if parts else 'no other method is here'}."


_MORE, _SAME, _LESS = "(a better direction)", "(not told apart)", "(a worse direction)"
_FATES = (_MORE, _SAME, _LESS)
# Searches along one and the same direction end this far from each other: so few looks leave it
# open, and a difference as small says nothing of directions, however narrow its interval.
_OPEN = 0.005


def _fate(left: Estimate) -> str:
    if abs(left.value) < _OPEN:
        return _SAME
    return _MORE if left.lower > 0 else _LESS if left.upper < 0 else _SAME


def length_table(view: View, board: Leaderboard) -> Table:
    """Tabulate skills as the forecasts are, at their best lengths, and beside the control's."""
    found = _found(board)
    labels = list(next(iter(found.lengths.values()), {}))
    control = found.control or CONTROL
    table = Table(
        f"{found.note[0].upper()}{found.note[1:]}. The choice looks at training losses alone. "
        f"A forecast that is w_n itself has no direction, and {BASELINE} no other row. A method "
        "that measured the loss itself has spent what it may, and stays as it is.",
        [
            Column("method", numeric=False),
            Column("skill as it is", f"over {board.ranking.baseline}; 95 %"),
            Column("at its best length", f"over {board.ranking.baseline} as it is; 95 %"),
            Column(f"beside {control}", f"skill over {control}, both at best length, paired; 95 %"),
            *(Column(f"length, {spoken(label)}", "median a; 1 is its own") for label in labels),
            Column("losses", "training losses measured for a cell, all horizons, the median"),
        ],
    )
    own = {s.method: s.skill for s in board.ranking.standings}
    for method in _order(board):
        notes = "reference" if method in view.results.references else ""
        table.rows.append(
            [
                words(method, note=notes, colour=view.looks[method].colour),
                *(
                    estimated(one, signed=True) if one.known else Cell("—")
                    for one in (
                        own[method],
                        found.skills[method],
                        found.beyond.get(method, Estimate()),
                    )
                ),
                *(value(found.lengths[method][label]) for label in labels),
                amount(found.evaluations[method]),
            ]
        )
    return table


def _order(board: Leaderboard) -> list[str]:
    """List the ranked methods, the best at its best length first."""
    skills = _found(board).skills
    ranked = [s.method for s in board.ranking.standings if s.method in skills]
    return sorted(ranked, key=lambda method: -skills[method].value)


def _found(board: Leaderboard) -> AtLength:
    assert board.at_length is not None
    return board.at_length
