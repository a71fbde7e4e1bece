"""Performance profiles of the loop tier: which share of data sets is solved within a factor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.bench.loop.profile import Profile
from weightcast.reports.figures import draw, log_axis, tell
from weightcast.reports.labels import short
from weightcast.reports.palette import Look

#: Factors at which a profile is told in words.
_TOLD = (1.0, 1.1, 1.5, 2.0)
#: Factors beyond this are not drawn.
FURTHEST = 4.0


def profile_limit(profiles: Sequence[Profile]) -> float:
    """Return where the axis of factors ends: beyond the largest, but at most at `FURTHEST`."""
    found = [factor for one in profiles for factor in one.factors if math.isfinite(factor)]
    return min(FURTHEST, max([1.2, *found]) * 1.1)


def loop_profile_plot(
    name: str, title: str, profiles: Sequence[Profile], limit: float, looks: Mapping[str, Look]
) -> Markup:
    """Draw profiles as steps, with a legend in their order.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    profiles : sequence of Profile
    limit : float
        Of the axis of factors, which begins at 1.
    looks : mapping of str to Look
    """

    def paint(axes: Axes) -> None:
        log_axis(axes, "x", 1.0, limit)
        ticks = (1, 1.1, 1.25, 1.5, 2, 3, 4)
        axes.set_xticks([tick for tick in ticks if tick <= limit], minor=False)
        for one in profiles:
            look = looks[one.label]
            at = sorted({1.0, *(f for f in one.factors if f <= limit), limit})
            line = axes.step(
                at,
                [one.within(factor) for factor in at],
                where="post",
                color=look.colour,
                dashes=look.dash or (None, None),
                label=short(one.label, 24),
            )
            shares = (f"{one.within(f):.0%} within {f:g}" for f in _TOLD if f <= limit)
            tell(line, one.label, f"{', '.join(shares)} times the fastest".replace("%", " %"))
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("step-equivalents over the fastest method's")
        axes.set_ylabel("share of data sets solved")
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)

    margin = 62 + 6.2 * max(len(short(one.label, 24)) for one in profiles)
    size = (330 + margin, max(260, 60 + 20 * len(profiles)))
    return draw(name, title, paint, size=size, margins=(50, margin, 42, 12))
