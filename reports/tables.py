"""Tables as the template lays them out; each column sorts by what its cells say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from weightcast.bench.estimate import Estimate
from weightcast.reports.numbers import DASH, count, fixed, interval, number


@dataclass(frozen=True)
class Column:
    """A column's head.

    ``hint`` explains it where the pointer rests; ``best`` is ``"high"`` or ``"low"``, what a first
    click puts on top, or empty where neither is better.
    """

    title: str
    hint: str = ""
    numeric: bool = True
    best: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell; ``sort`` is what its column sorts by, empty for last in either direction."""

    text: str
    sort: str = ""
    note: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    ``stacked`` puts notes below their numbers, to save width; rows in ``foot`` stay below the
    others however they are sorted.
    """

    caption: str
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    stacked: bool = False
    foot: list[list[Cell]] = field(default_factory=list)


def key(value: float | None) -> str:
    """Write a number as a sort key; what is undefined sorts last."""
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return "1e300" if value > 0 else "-1e300"
    return repr(float(value))


def value(amount: float | None, digits: int = 3, *, signed: bool = False, note: str = "") -> Cell:
    """Make a cell of a number with significant digits."""
    return Cell(number(amount, digits, signed=signed), key(amount), note)


def decimal(amount: float | None, places: int = 2, *, signed: bool = False, note: str = "") -> Cell:
    """Make a cell of a number with fixed decimal places."""
    return Cell(fixed(amount, places, signed=signed), key(amount), note)


def estimated(found: Estimate, *, signed: bool = False, said: str = "") -> Cell:
    """Make a cell of an estimate, its interval below, with what is said of it."""
    bounds = interval(found, signed=signed)
    return decimal(found.value, signed=signed, note=f"{bounds} {said}".strip())


def amount(whole: float | None) -> Cell:
    """Make a cell of a whole number."""
    return Cell(count(whole), key(whole))


def words(text: str, *, note: str = "", colour: str = "") -> Cell:
    """Make a cell of words."""
    return Cell(text or DASH, text, note, colour)


def share(part: int, whole: int) -> Cell:
    """Make a cell of a share with its counts; a dash where there is nothing to share."""
    if not whole:
        return Cell(DASH)
    return Cell(f"{100 * part / whole:.0f} %", key(part / whole), f"{part} of {whole}")
