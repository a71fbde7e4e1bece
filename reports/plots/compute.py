"""Accuracy against compute: one panel a task, one point a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.reports.figures import CLIP, INK, draw, log_axis, log_range, tell
from weightcast.reports.labels import Label, label_points, short
from weightcast.reports.numbers import number, seconds
from weightcast.reports.palette import Look


@dataclass(frozen=True)
class Cost:
    """What a method cost on a task and what it brought.

    ``hollow`` marks a method that ran on the coordinate sample only; its cost is the sample's.
    """

    label: str
    seconds: float
    error: float
    hollow: bool


def pareto_front(costs: Sequence[Cost]) -> list[Cost]:
    """Return those than which nothing is both cheaper and better, cheapest first."""
    front: list[Cost] = []
    for cost in sorted(costs, key=lambda c: (c.seconds, c.error)):
        if not front or cost.error < front[-1].error:
            front.append(cost)
    return front


def compute_plot(
    name: str, title: str, costs: Sequence[Cost], looks: Mapping[str, Look]
) -> Markup | None:
    """Draw errors against seconds, both on logarithmic axes; None without any point.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    costs : sequence of Cost
    looks : mapping of str to Look
    """
    # Below a microsecond a clock says nothing.
    there = [
        Cost(c.label, max(c.seconds, 1e-6), max(c.error, 1e-4), c.hollow)
        for c in costs
        if c.seconds == c.seconds and c.error == c.error
    ]
    if not there:
        return None
    left, right = log_range([c.seconds for c in there], pad=3)
    low, high = log_range([*(min(c.error, CLIP) for c in there), 1.0], pad=1.35)
    top = min(high, CLIP)

    def paint(axes: Axes) -> None:
        log_axis(axes, "x", left, right)
        log_axis(axes, "y", low, top)
        axes.axhline(1, color=INK, linewidth=0.9, dashes=(4, 3))
        front = pareto_front([c for c in there if not c.hollow and c.error <= top])
        if front:
            axes.step(
                [c.seconds for c in front] + [right],
                [c.error for c in front] + [front[-1].error],
                where="post",
                color=INK,
                linewidth=1.0,
                alpha=0.45,
            )
        points = []
        for cost in there:
            look, inside = looks[cost.label], cost.error <= top
            y = cost.error if inside else top
            mark = axes.plot(
                [cost.seconds],
                [y],
                linestyle="none",
                marker=look.marker if inside else "^",
                markersize=7,
                markerfacecolor="none" if cost.hollow else look.colour,
                markeredgecolor=look.colour,
                clip_on=False,
            )
            said = f"median rel_sum {number(cost.error)} for {seconds(cost.seconds)}"
            tell(mark, cost.label, said)
            points.append(
                Label(cost.seconds, y, short(cost.label) + ("" if inside else " ↑"), look.colour)
            )
        label_points(axes, points)
        axes.set_xlabel("fit and one run's forecast, seconds")
        axes.set_ylabel("median rel_sum")

    return draw(name, title, paint, size=(400, 320), margins=(50, 16, 42, 14))
