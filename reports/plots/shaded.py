"""A map of numbers: rows by columns, a number and a shade each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from weightcast.reports.figures import INK, draw, tell
from weightcast.reports.labels import short

_ABOVE, _BELOW = "#2a6fbb", "#c8641e"
_ROW, _COLUMN, _LINE = 34.0, 84.0, 13.0


@dataclass(frozen=True)
class Shade:
    """What stands in a place: blue above 0, orange below, the stronger the nearer 1 or −1."""

    text: str
    strength: float


def shaded_map(
    name: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    found: Mapping[tuple[str, str], Shade],
    across: str,
    row_height: float = _ROW,
) -> Markup:
    """Draw a map; a dash stands where nothing is known.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    rows, columns : sequence of str
        From the top, and from the left; columns may have several lines.
    found : mapping of (row, column) to Shade
    across : str
        What the columns are.
    row_height : float
    """

    def paint(axes: Axes) -> None:
        axes.grid(False)
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                shade = found.get((row, column), Shade("—", 0.0))
                colour = _ABOVE if shade.strength > 0 else _BELOW
                place = (x - 0.47, y - 0.44)
                alpha = 0.6 * min(1.0, abs(shade.strength))
                box = Rectangle(place, 0.94, 0.88, color=colour, alpha=alpha, lw=0)
                axes.add_patch(box)
                tell([box], row, f"{shade.text} on {' '.join(column.split())}")
                axes.text(x, y, shade.text, ha="center", va="center", color=INK)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks(range(len(rows)), [short(row) for row in rows])
        axes.set_xlabel(across)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)

    lines = max(column.count("\n") for column in columns)
    below = 42 + _LINE * lines
    left = 16 + 6.6 * max(len(short(row)) for row in rows)
    size = (left + _COLUMN * len(columns) + 12, 16 + below + row_height * len(rows))
    return draw(name, title, paint, size=size, margins=(left, 12, below, 12))
