"""In which line of a TOML file a key or an element of a list stands.

The standard library reads TOML without saying where anything was. What it has read is read once
more here, for places alone: the text is known to be TOML, so nothing is checked.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

#: Where something is in what was read: keys, and indices of lists.
Place = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)


def toml_lines(text: str) -> dict[Place, int]:
    """Return the line of every key, table and element of a list, from 1 on.

    Parameters
    ----------
    text : str
        What `tomllib.loads` takes. A table that is written in several places is where it begins.

    Examples
    --------
    >>> list(toml_lines("a = [1]").items())
    [(('a',), 1), (('a', 0), 1)]
    """
    return _Scanner(text.replace("\r\n", "\n")).lines()


def line_of(lines: dict[Place, int], place: Place) -> int | None:
    """Return the line of a place, or of the nearest thing around it that has one."""
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._found: dict[Place, int] = {}
        #: How many tables a list of tables has so far.
        self._tables: dict[Place, int] = {}

    def lines(self) -> dict[Place, int]:
        table: Place = ()
        self._take(_GAP)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._take(_GAP)
        return self._found

    def _header(self) -> Place:
        several = self._text.startswith("[[", self._at)
        self._at += 1 + several
        *above, last = self._key()
        self._at += 1 + several
        table: Place = ()
        for name in above:
            table = self._inside((*table, name))
        table = (*table, last)
        self._mark(table)
        if several:
            self._tables[table] = self._tables.get(table, 0) + 1
            table = self._inside(table)
        return table

    def _inside(self, table: Place) -> Place:
        """Return the place of a table, or of the last one in a list of tables."""
        self._mark(table)
        if table in self._tables:
            table = (*table, self._tables[table] - 1)
            self._mark(table)
        return table

    def _pair(self, table: Place) -> None:
        for name in self._key():
            table = (*table, name)
            self._mark(table)
        self._at += 1  # the equals sign
        self._take(_SPACE)
        self._value(table)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._take(_SPACE)
            if self._text[self._at] in "\"'":
                names.append(_unquoted(self._string()))
            else:
                names.append(self._take(_BARE))
            self._take(_SPACE)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _value(self, place: Place) -> None:
        letter = self._text[self._at]
        if letter in "\"'":
            self._string()
        elif letter == "[":
            for index in self._members("]"):
                self._mark((*place, index))
                self._value((*place, index))
        elif letter == "{":
            for _ in self._members("}"):
                self._pair(place)
        else:
            self._take(_SCALAR)

    def _members(self, end: str) -> Any:
        """Stop at each member of a list or table in brackets; the caller reads it."""
        self._at += 1
        index = 0
        while True:
            self._take(_GAP)
            if self._text.startswith(end, self._at):
                break
            yield index
            index += 1
            self._take(_GAP)
            if self._text.startswith(",", self._at):
                self._at += 1
        self._at += 1

    def _string(self) -> str:
        found = next(s for s in (p.match(self._text, self._at) for p in _STRINGS) if s)
        self._at = found.end()
        return found[0]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"not TOML at {self._text[self._at : self._at + 20]!r}")
        self._at = found.end()
        return found[0]

    def _mark(self, place: Place) -> None:
        self._found.setdefault(place, self._text.count("\n", 0, self._at) + 1)


def _unquoted(name: str) -> str:
    return str(tomllib.loads(f"x = {name}")["x"])
