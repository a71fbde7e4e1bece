"""Tuned against tuned: each method's ratio to plain training with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.board import SHORT
from weightcast.bench.loop.scores import FASTER, SLOWER
from weightcast.reports.figures import INK, draw, log_axis, log_range, tell
from weightcast.reports.labels import short
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.palette import Look

#: Ratios beyond these are drawn as arrows.
LEAST, MOST = 0.1, 10.0
# Ticks for axes of which 1 is the middle: those of the narrowest span that the axis fits in.
_TICKS = (
    (2.5, (0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5)),
    (8.0, (0.3, 0.5, 0.7, 1, 1.5, 2, 3)),
    (1e9, (0.1, 0.2, 0.5, 1, 2, 5, 10)),
)


@dataclass(frozen=True)
class Ratio:
    """A method's ratio to tuned plain training."""

    label: str
    found: Estimate
    verdict: str


def ratio_limits(ratios: Sequence[Ratio]) -> tuple[float, float]:
    """Return limits of an axis that holds all ratios and 1."""
    found = [r.found for r in ratios]
    ends = [end for e in found for end in (e.value, e.lower, e.upper) if math.isfinite(end)]
    low, high = log_range([1.0, *(min(max(end, LEAST), MOST) for end in ends)], pad=1.08)
    return low, high


def loop_ratio_plot(
    name: str,
    title: str,
    ratios: Sequence[Ratio],
    null: Estimate | None,
    limits: tuple[float, float],
    looks: Mapping[str, Look],
) -> Markup:
    """Draw ratios with their 95 % intervals, in the order given, the first on top.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    ratios : sequence of Ratio
    null : Estimate, optional
        The null row's interval, drawn as a band.
    limits : tuple of float
        Of the axis; pictures that stand side by side share them.
    looks : mapping of str to Look
    """
    rows = list(ratios)[::-1]
    left, right = limits

    def paint(axes: Axes) -> None:
        log_axis(axes, "x", left, right)
        ticks = next(found for span, found in _TICKS if right / left <= span)
        axes.set_xticks([tick for tick in ticks if left <= tick <= right])
        if null is not None:
            band = max(null.lower, left), min(null.upper, right)
            axes.axvspan(*band, color=INK, alpha=0.1, linewidth=0)
        axes.axvline(1, color=INK, linewidth=0.9)
        for index, row in enumerate(rows):
            _paint_row(axes, index, row, limits, looks[row.label])
            axes.annotate(
                SHORT.get(row.verdict, row.verdict),
                xy=(1, index),
                xycoords=("axes fraction", "data"),
                xytext=(10, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
                fontweight="bold" if row.verdict in (FASTER, SLOWER) else "normal",
                annotation_clip=False,
            )
        axes.set_yticks(range(len(rows)), [short(row.label, 24) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("step-equivalents over tuned plain training's")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, pad=9)
        axes.spines["left"].set_visible(False)

    longest = max((len(short(row.label, 24)) for row in rows), default=0)
    margin = 18 + 6.2 * longest
    return draw(
        name,
        title,
        paint,
        size=(margin + 330, 60 + 22 * len(rows)),
        margins=(margin, 122, 42, 8),
    )


def _paint_row(axes: Axes, index: int, row: Ratio, limits: tuple[float, float], look: Look) -> None:
    left, right = limits
    colour, found = look.colour, row.found
    marks = []
    if math.isfinite(found.lower) and found.upper > left and found.lower < right:
        marks += axes.plot(
            [max(found.lower, left), min(found.upper, right)],
            [index, index],
            color=colour,
            linewidth=2.2,
            solid_capstyle="round",
            clip_on=False,
        )
    inside = left <= found.value <= right
    marker = look.marker if inside else "<" if found.value < left else ">"
    marks += axes.plot(
        [min(max(found.value, left), right)],
        [index],
        marker=marker,
        markersize=7,
        markerfacecolor="none" if row.verdict.startswith("refused") else colour,
        markeredgecolor=colour,
        clip_on=False,
    )
    said = f"{fixed(found.value)} {interval(found)}".rstrip()
    tell(marks, row.label, f"{said} of tuned plain training's steps, {row.verdict}")
