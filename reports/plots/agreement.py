"""Nearer in weights against lower loss: one point a method and data set, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.reports.figures import CLIP, INK, draw, log_axis, log_range, tell
from weightcast.reports.labels import short
from weightcast.reports.numbers import fixed
from weightcast.reports.palette import Look


@dataclass(frozen=True)
class Gain:
    """A method's gains over the last value on a task, as factors; above 1 is better.

    Attributes
    ----------
    label : str
    task : str
        Its title.
    weights : float
        The last value's median error over the method's.
    function : float
        Its median train loss at the last horizon over the method's.
    """

    label: str
    task: str
    weights: float
    function: float


def agreement_plot(
    name: str, title: str, gains: Sequence[Gain], looks: Mapping[str, Look]
) -> Markup | None:
    """Draw gains in function against gains in weights; None without any point.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    gains : sequence of Gain
        Of any number of tasks.
    looks : mapping of str to Look
    """
    if not gains:
        return None
    x_limits = _limits([gain.weights for gain in gains])
    y_limits = _limits([gain.function for gain in gains])
    labels = list(dict.fromkeys(gain.label for gain in gains))

    def paint(axes: Axes) -> None:
        log_axis(axes, "x", *x_limits)
        log_axis(axes, "y", *y_limits)
        axes.axhline(1, color=INK, linewidth=0.9, dashes=(4, 3))
        axes.axvline(1, color=INK, linewidth=0.9, dashes=(4, 3))
        for gain in gains:
            look = looks[gain.label]
            x, y = _inside(gain.weights, x_limits), _inside(gain.function, y_limits)
            outside = (x, y) != (gain.weights, gain.function)
            mark = axes.plot(
                [x],
                [y],
                linestyle="none",
                marker=look.marker,
                markersize=6.5,
                markerfacecolor="none" if outside else look.colour,
                markeredgecolor=look.colour,
                alpha=0.9,
                clip_on=False,
            )
            gained = f"weights {fixed(gain.weights)}, function {fixed(gain.function)}"
            tell(mark, gain.label, f"{gain.task}, last value's error over its own: {gained}")
        for index, label in enumerate(labels):
            _entry(axes, label, index, looks[label])
        axes.set_xlabel("last value's error in weights over the method's")
        axes.set_ylabel("last value's train loss over the method's")

    margin = 34 + 5.8 * max(len(short(label)) for label in labels)
    height = max(330.0, 60 + 15.0 * len(labels))
    return draw(name, title, paint, size=(350 + margin, height), margins=(54, margin, 42, 12))


def _entry(axes: Axes, label: str, index: int, look: Look) -> None:
    """Write a line of the legend beside the axes."""
    box = axes.get_window_extent()
    x, y = box.x1 + 18, box.y1 - 8 - 15 * index
    at = axes.transAxes.inverted().transform((x, y))
    axes.plot(
        *([v] for v in at),
        transform=axes.transAxes,
        linestyle="none",
        marker=look.marker,
        markersize=6.5,
        color=look.colour,
        clip_on=False,
    )
    axes.annotate(
        short(label),
        xy=(x + 9, y),
        xycoords="figure pixels",
        fontsize=10,
        color=look.colour,
        va="center",
        annotation_clip=False,
    )


def _limits(factors: Sequence[float]) -> tuple[float, float]:
    low, high = log_range([1.0, *(float(np.clip(f, 1 / CLIP, CLIP)) for f in factors)], pad=1.15)
    return max(low, 1 / CLIP), min(high, CLIP)


def _inside(factor: float, limits: tuple[float, float]) -> float:
    return float(np.clip(factor, *limits))
