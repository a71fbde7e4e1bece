"""The forest plot: each method's skill with its interval."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.bench.results.inference.ranking import Ranking
from weightcast.reports.figures import INK, draw, tell
from weightcast.reports.labels import short
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.palette import Look

#: Skills below this are drawn as an arrow: they can be as low as −99.
LOWEST = -1.0
#: The frame goes on to here at least: hundredths alone would look like much.
_NARROWEST = 0.05


def forest_plot(name: str, title: str, ranking: Ranking, looks: Mapping[str, Look]) -> Markup:
    """Draw skills with their 95 % intervals, best on top.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    ranking : Ranking
    looks : mapping of str to Look
    """
    standings = ranking.standings[::-1]
    skills = [s.skill for s in standings]
    lower = min([s.lower for s in skills] + [s.value for s in skills] + [0.0])
    upper = max(*(s.upper for s in skills), _NARROWEST)
    # The frame ends where the intervals do, whether skills are a tenth or nine.
    room = 0.06 * (upper - max(lower, LOWEST))
    left, right = max(lower - room, LOWEST), upper + room

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for index, s in enumerate(standings):
            look = looks[s.method]
            said = f"skill {fixed(s.skill.value, signed=True)} {interval(s.skill, signed=True)}"
            marks = []
            if s.skill.upper > left:
                marks += axes.plot(
                    [max(s.skill.lower, left), s.skill.upper],
                    [index, index],
                    color=look.colour,
                    linewidth=2.2,
                    solid_capstyle="round",
                    clip_on=False,
                )
            inside = s.skill.value >= left
            marks += axes.plot(
                [s.skill.value if inside else left],
                [index],
                marker=look.marker if inside else "<",
                markersize=7,
                color=look.colour,
                clip_on=False,
            )
            if inside and s.skill.lower < left:
                axes.plot([left], [index], marker="<", markersize=4.5, color=look.colour)
            tell(marks, s.method, said)
        axes.set_yticks(range(len(standings)), [short(s.method) for s in standings])
        axes.set_ylim(-0.6, len(standings) - 0.4)
        axes.set_xlim(left, right)
        axes.set_xlabel(f"skill against {ranking.baseline}")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, pad=9)
        axes.spines["left"].set_visible(False)

    longest = max(len(short(s.method)) for s in standings)
    margin = min(230.0, 18 + 6.2 * longest)
    return draw(
        name,
        title,
        paint,
        size=(max(410, margin + 270), 60 + 22 * len(standings)),
        margins=(margin, 18, 42, 8),
    )
