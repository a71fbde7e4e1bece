"""What a folder's text says, whatever the format: a lead, a table a ranking, notes."""

from __future__ import annotations

from dataclasses import dataclass, field

from weightcast.bench.commands.info import ranking_rows
from weightcast.bench.loop.board import terminal_tables
from weightcast.bench.results.absent import absent_tiers
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.bench.results.mixed import mixed_note
from weightcast.datasets import InputError
from weightcast.reports.sections.answers import answers, asked
from weightcast.reports.view import View

#: What of a ranking stays on a page: all of it is in ``leaderboard --csv``.
_LEFT_OUT = ("IQM", "win rate", "mean rank", "error over ")


@dataclass(frozen=True)
class Sheet:
    """One ranking.

    Attributes
    ----------
    title : str
    head : list of str
        The columns; the first holds the methods.
    rows : list of list of str
    notes : list of str
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """What is said of a result folder."""

    title: str
    lead: list[str]
    sheets: list[Sheet]
    notes: list[str]


def document_of(view: View) -> Document:
    """Say what a result folder's rankings say.

    Raises
    ------
    InputError
        If nothing in it is ranked.
    """
    results, sheets, why = view.results, [], ""
    if not results.cells.empty:
        function = view.rank(tier="function")
        for ranked in (view.ranked, function):
            if ranked.board is not None:
                sheets.append(_ranking(view, ranked.board))
        why = view.ranked.reason
        for track in sorted({"fine-tune"} & set(results.cells["track"])):
            for tier in ("weights", "function"):
                board = view.rank(tier=tier, track=track).board
                if board is not None:
                    sheets.append(_ranking(view, board, f"track {track}, "))
    if view.loop is not None:
        board_of_loop = view.loop.board()
        sheets += [
            _sheet(title, rows, board_of_loop.notes * (place == 0))
            for place, (title, rows) in enumerate(terminal_tables(board_of_loop))
            if rows
        ]
    if not sheets:
        raise InputError(f"nothing here is ranked: {why or 'no method has runs to compare yet'}")
    notes = [mixed_note(results.machines, results.packages_used())]
    if not results.cells.empty:
        notes += [*absent_tiers(results, "function"), *absent_tiers(results, "loop")]
    title = f"Weightcast, suite {results.suite}"
    return Document(title, [asked(view), *answers(view)], sheets, [note for note in notes if note])


def _ranking(view: View, board: Leaderboard, where: str = "") -> Sheet:
    rows = ranking_rows(
        board.ranking,
        board.horizons,
        board.at_horizons,
        board.pairwise,
        board.at_length.skills if board.at_length else None,
        view.results.references,
    )
    labels = [s.method for s in board.ranking.standings]
    labels += [u.method for u in board.ranking.unranked]
    for label, row in zip(labels, rows, strict=True):
        row["provenance"] = view.provenance(label)
    kept = [
        {name: text for name, text in row.items() if not name.startswith(_LEFT_OUT)} for row in rows
    ]
    title = f"{where}{board.tier} tier, {board.spoken}; skill against {board.ranking.baseline}"
    return _sheet(title, kept, board.notes)


def _sheet(title: str, rows: list[dict[str, object]], notes: list[str]) -> Sheet:
    head = list(dict.fromkeys(name for row in rows for name in row))
    return Sheet(title, head, [[str(row.get(name, "")) for name in head] for row in rows], notes)
