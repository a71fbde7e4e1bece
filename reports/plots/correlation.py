"""The map of rank correlations: data sets by horizons, a number and a shade each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from weightcast.bench.results.gains import GainCorrelation
from weightcast.bench.results.horizons import spoken
from weightcast.reports.figures import INK, draw
from weightcast.reports.numbers import fixed

#: Blue where more in weights goes with more in function, orange where it goes with less.
_WITH, _AGAINST = "#2a6fbb", "#c8641e"
_ROW, _COLUMN = 34.0, 84.0


def correlation_map(
    name: str,
    title: str,
    rows: Sequence[str],
    horizons: Sequence[str],
    found: Mapping[tuple[str, str], GainCorrelation],
) -> Markup | None:
    """Draw correlations; None where none is known.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    rows : sequence of str
        Tasks, from the top.
    horizons : sequence of str
        ``h5`` and so on, from the left.
    found : mapping of (row, horizon) to GainCorrelation
    """
    if not any(one.rho.known for one in found.values()):
        return None

    def paint(axes: Axes) -> None:
        axes.grid(False)
        for y, row in enumerate(rows):
            for x, horizon in enumerate(horizons):
                one = found.get((row, horizon))
                if one is None or not one.rho.known:
                    axes.text(x, y, "—", ha="center", va="center")
                    continue
                rho = one.rho.value
                colour = _WITH if rho > 0 else _AGAINST
                axes.add_patch(
                    Rectangle(
                        (x - 0.47, y - 0.44), 0.94, 0.88, color=colour, alpha=0.6 * abs(rho), lw=0
                    )
                )
                said = fixed(rho, signed=True) + ("*" if one.p < 0.05 else "")
                axes.text(x, y, said, ha="center", va="center", color=INK)
        axes.set_xlim(-0.5, len(horizons) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(horizons)), [spoken(label) for label in horizons])
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_xlabel("horizon")
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)

    left = 16 + 6.6 * max(len(row) for row in rows)
    size = (left + _COLUMN * len(horizons) + 12, 58 + _ROW * len(rows))
    return draw(name, title, paint, size=size, margins=(left, 12, 42, 12))
