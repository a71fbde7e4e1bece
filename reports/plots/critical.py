"""The critical-difference diagram: mean ranks, and bars over those that cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.bench.results.inference.friedman import Friedman
from weightcast.bench.results.inference.pairwise import LEVEL
from weightcast.reports.figures import FONT_SIZE, INK, draw, tell
from weightcast.reports.labels import short
from weightcast.reports.palette import Look

# Of one line of labels, in pixels.
_LINE = 17
# Between an elbow's end and its label.
_GAP = "\N{NO-BREAK SPACE}"


def critical_plot(name: str, title: str, found: Friedman, looks: Mapping[str, Look]) -> Markup:
    """Draw mean ranks on a line, 1 at the left; a bar joins methods that do not differ at 5 %.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    found : Friedman
    looks : mapping of str to Look
    """
    # Every label once: a name cut short may be another's too.
    shown = {method: short(method, 24) for method in found.methods}
    if len(set(shown.values())) < len(shown):
        shown = {method: method for method in found.methods}
    order = [shown[found.methods[i]] for i in np.argsort(found.mean_ranks, kind="stable")]
    half = (len(order) + 1) // 2
    left, right = (12 + 6.2 * (5 + max(map(len, part))) for part in (order[:half], order[half:]))

    def paint(axes: Axes) -> None:
        drawn = _diagram(axes, found, shown, looks)
        lowest = min(text.get_position()[1] for text in drawn["labels"])
        start = float(found.mean_ranks.min())
        end = float(found.mean_ranks.max())
        axes.plot([start, end], [0, 0], color=INK, linewidth=0.8)
        # The library draws it over the ticks.
        axes.plot(
            [start, start + found.critical_difference], [2, 2], color=INK, linewidth=1.6, marker="|"
        )
        axes.text(start, 2.7, f"critical difference {found.critical_difference:.2f}", va="bottom")
        axes.set_xlim(start, max(end, start + found.critical_difference))
        axes.set_ylim(lowest - 0.6, 4)
        axes.tick_params(axis="x", pad=1)
        axes.grid(visible=False)

    return draw(
        name,
        title,
        paint,
        size=(left + right + 220, _LINE * (_bars(found) + half + 6) + 8),
        margins=(left, right, 4, 4),
    )


def _diagram(
    axes: Axes, found: Friedman, shown: Mapping[str, str], looks: Mapping[str, Look]
) -> dict[str, Any]:
    """Have ranks, bars and labels drawn."""
    import pandas as pd
    from scikit_posthocs import critical_difference_diagram

    label = {method: _Label(shown[method]) for method in found.methods}
    labels = pd.Index(list(label.values()), dtype=object)
    drawn: dict[str, Any] = critical_difference_diagram(
        pd.Series(found.mean_ranks, index=labels),
        pd.DataFrame(found.pairs, index=labels, columns=labels),
        ax=axes,
        alpha=LEVEL,
        label_fmt_left="{label} {rank:.1f}" + _GAP,
        label_fmt_right=_GAP + "{rank:.1f} {label}",
        label_props={"fontsize": FONT_SIZE, "clip_on": False},
        marker_props={"s": 24, "clip_on": False},
        elbow_props={"linewidth": 1.1, "clip_on": False},
        crossbar_props={"color": INK, "linewidth": 3.2, "solid_capstyle": "round"},
        color_palette={label[method]: looks[method].colour for method in found.methods},
        text_h_margin=0.0,
    )
    ranks = dict(zip(found.methods, found.mean_ranks, strict=True))
    # The library tells whose an elbow is by the words beside it alone.
    whose = {
        text: method
        for method, rank in ranks.items()
        for text in (
            f"{shown[method]} {rank:.1f}{_GAP}",
            f"{_GAP}{rank:.1f} {shown[method]}",
        )
    }
    for marker, elbow, text in zip(drawn["markers"], drawn["elbows"], drawn["labels"], strict=True):
        method = whose[text.get_text()]
        tell([elbow, marker, text], method, f"mean rank {ranks[method]:.2f}")
        text.set_color(INK)
    return drawn


class _Label(str):
    """A label with one hash in all processes: the library draws bars in the order of a set."""

    __slots__ = ()

    def __hash__(self) -> int:
        return crc32(self.encode())


def _bars(found: Friedman) -> int:
    """Count the longest stretches of ranks that are not told apart: no more bars are drawn."""
    order = np.argsort(found.mean_ranks, kind="stable")
    alike = found.pairs[np.ix_(order, order)] >= LEVEL
    ends = {int(np.flatnonzero(row)[-1]) for row in alike}
    return len(ends)
