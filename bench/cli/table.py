"""Tables on a terminal of any width: a number is shown whole or its column is not shown at all.

Text of several words is broken between words. Where that is not enough, columns go, least
important first, and a line below says which.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

#: Columns that go first, in this order, in whatever table they are; then go others, from the right.
_FIRST_TO_GO = (
    "implementation", "level", "kind", "role", "tuned", "provenance", "contexts", "track",
    "mean rank", "IQM", "win rate", "error over", "fits", "stored", "steps", "same rate", "p",
    "runs", "failures", "missed", "failed", "before", "after", "tier", "runs here", "ranks",
)  # fmt: skip
_GAP = 2
#: Words from which a cell is a text that may be broken, and the fewest characters that it gets.
_WORDS, _LEAST_TEXT = 4, 20
#: Where a name of one word may be broken; never within a number.
_BREAKS = re.compile(r"(?<=[,(\s])|(?=\()|(?<=[a-z]-)(?=[a-z])")


@dataclass(eq=False)
class Column:
    """A column: what stands above it and in it, and how wide it is."""

    name: str
    cells: list[str]
    width: int = 0

    @property
    def is_text(self) -> bool:
        """Whether its cells are sentences rather than names or numbers."""
        return any(len(re.findall(r"[^\W\d]{2,}", cell)) >= _WORDS for cell in self.cells)

    @property
    def whole(self) -> int:
        """The width at which nothing in a cell is broken."""
        return max(map(cell_len, self.cells), default=0)

    @property
    def least(self) -> int:
        """The smallest width at which no number is cut."""
        head = max(map(cell_len, self.name.split()), default=0)
        if not self.is_text:
            return max(head, self.whole)
        words = max((cell_len(word) for cell in self.cells for word in cell.split()), default=0)
        return max(head, words, min(self.whole, _LEAST_TEXT))


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Choose columns that fit into a width, with the widths that they get.

    Parameters
    ----------
    columns : sequence of Column
        The first one names the rows, and stays.
    width : int
        Characters a line.

    Returns
    -------
    list of Column
        Those that stay, with the lines of their cells.
    list of str
        The names of those that have to go, in the order in which they went.

    Examples
    --------
    >>> table = [Column("method", ["lfd2"]), Column("skill", ["+0.5"]), Column("IQM", ["+0.4"])]
    >>> fit(table, 14)[1]
    ['IQM']
    """
    kept, gone = list(columns), []
    while len(kept) > 1 and _needed(kept) > width:
        going = next(iter(_going(kept)), None)
        if going is None:
            # What the table is about goes only where a name fills the line, broken as it can be.
            if _needed([Column(kept[0].name, _broken(kept[0].cells, 1)), kept[1]]) <= width:
                break
            going = kept[1]
        kept.remove(going)
        gone.append(going.name)
    _share(kept, width)
    return kept, gone


def lines(text: str, width: int) -> str:
    """Break a text between words, and a name that is too long at its brackets and commas."""
    if cell_len(text) <= width:
        return text
    found = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    pieces = ([line] if cell_len(line) <= width else _cut(line, width) for line in found)
    return "\n".join(piece for line in pieces for piece in line)


def whole_width(columns: Sequence[Column]) -> int:
    """Return the characters a line that show every column and break nothing."""
    widths = (max(column.whole, column.least, cell_len(column.name)) for column in columns)
    return sum(widths) + _GAP * (len(columns) - 1)


def _needed(columns: Sequence[Column]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _going(columns: Sequence[Column]) -> list[Column]:
    """Order columns by which is to go first: not the first, nor the second for want of a reason."""
    named = [column for name in _FIRST_TO_GO for column in columns[1:] if _is(column.name, name)]
    return [*named, *(column for column in reversed(columns[2:]) if column not in named)]


def _is(column: str, name: str) -> bool:
    return column == name or (name == "error over" and column.startswith(name))


def _share(columns: Sequence[Column], width: int) -> None:
    """Give each column its width; what is left goes to texts, then to what stands above."""
    for column in columns:
        column.width = column.least
    names = columns[0]
    if _needed(columns) > width:  # names alone are too long
        names.width = max(width - (_needed(columns) - names.least), 1)
        names.width = max(names.width, *map(cell_len, " ".join(_broken(names.cells, 1)).split()))
    left = width - sum(column.width for column in columns) - _GAP * (len(columns) - 1)
    wanted = [(c, c.whole) for c in columns] + [(c, cell_len(c.name)) for c in columns]
    for column, want in wanted:
        more = max(0, min(left, want - column.width))
        column.width, left = column.width + more, left - more


def _broken(cells: Sequence[str], width: int) -> list[str]:
    return [piece for cell in cells for piece in _cut(cell, width)]


def _cut(text: str, width: int) -> list[str]:
    """Cut a name into pieces of a width at most, as far as it can be cut."""
    found = [""]
    for piece in (one for one in _BREAKS.split(text) if one):
        if found[-1] and cell_len(found[-1] + piece.rstrip()) > width:
            found.append("")
        found[-1] += piece
    return [line.strip() for line in found]
