"""Labels beside points and line ends that do not lie on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from weightcast.reports.figures import FONT_SIZE

_SIZE = FONT_SIZE - 1.0
_LINE = _SIZE + 1.5


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def short(name: str, most: int = 28) -> str:
    """Cut a long name in its middle: both its method and its last parameter tell it apart.

    Examples
    --------
    >>> short("lfd2-grad(max_passes=40, tolerance=1e-05, weight=10.0)")
    'lfd2-grad(max…, weight=10.0)'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[:half]}…{name[-(most - 1 - half) :]}"


def spread(places: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Move places in [low, high] apart to at least a gap, keeping their order.

    Examples
    --------
    >>> spread([5.0, 5.0, 9.0], 0.0, 10.0, 2.0)
    [4.0, 6.0, 9.0]
    """
    order = np.argsort(places, kind="stable")
    gap = min(gap, (high - low) / max(1, len(places) - 1)) if len(places) > 1 else gap
    groups: list[list[float]] = []  # each: sum of wanted centres, number of members
    for index in order:
        groups.append([min(max(places[index], low), high), 1])
        while len(groups) > 1 and _start(groups[-1], low, high, gap) < (
            _start(groups[-2], low, high, gap) + groups[-2][1] * gap - 1e-9
        ):
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + members]
    spread_out = [0.0] * len(places)
    place = 0
    for group in groups:
        start = _start(group, low, high, gap)
        for member in range(int(group[1])):
            spread_out[order[place]] = float(start + member * gap)
            place += 1
    return spread_out


def _start(group: list[float], low: float, high: float, gap: float) -> float:
    total, members = group
    extent = (members - 1) * gap
    return min(max(total / members - extent / 2, low), high - extent)


def label_ends(axes: Axes, ends: Sequence[Label]) -> None:
    """Write labels in a column to the right of the axes, each joined to its line's end."""
    if not ends:
        return
    axes.figure.canvas.draw_idle()
    box = axes.get_window_extent()
    targets = [float(axes.transData.transform((e.x, e.y))[1]) for e in ends]
    places = spread(targets, box.y0 + 2, box.y1 - 2, _LINE)
    for end, target, place in zip(ends, targets, places, strict=True):
        axes.annotate(
            end.text,
            xy=(box.x1 + 1, min(max(target, box.y0), box.y1)),
            xycoords="figure pixels",
            xytext=(box.x1 + 12, place),
            textcoords="figure pixels",
            fontsize=_SIZE,
            color=end.colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0.0, 0.5),
            },
        )


def label_points(axes: Axes, points: Sequence[Label]) -> None:
    """Write a label beside each point, where there is most room."""
    frame = axes.get_window_extent()
    centres = [axes.transData.transform((p.x, p.y)) for p in points]
    taken = [(x - 4.5, y - 4.5, x + 4.5, y + 4.5) for x, y in centres]
    # The most crowded first: they have the fewest places to choose from.
    crowd = [sum(bool(np.hypot(*(c - d)) < 60) for d in centres) for c in centres]
    for index in sorted(range(len(points)), key=lambda i: -crowd[i]):
        point, (x, y) = points[index], centres[index]
        width, height = 0.58 * _SIZE * len(point.text), _SIZE
        best = min(
            _candidates(x, y, width, height),
            key=lambda found: _cost(found, taken, (frame.x0, frame.y0, frame.x1, frame.y1)),
        )
        taken.append(best[0])
        (x0, y0, _, _), distance = best
        axes.annotate(
            point.text,
            xy=(x, y),
            xycoords="figure pixels",
            xytext=(x0, y0 + height / 2),
            textcoords="figure pixels",
            fontsize=_SIZE,
            color=point.colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": point.colour,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkA": 0,
                "shrinkB": 4,
            }
            if distance > 12
            else None,
        )


_Box = tuple[float, float, float, float]


def _candidates(x: float, y: float, width: float, height: float) -> list[tuple[_Box, float]]:
    """List boxes around a point, near ones first, each with its distance."""
    found = []
    for reach in (7.0, 14.0, 24.0, 36.0, 50.0, 66.0):
        for angle in np.deg2rad([0, 180, 90, 270, 35, 325, 145, 215, 65, 295, 115, 245]):
            dx, dy = np.cos(angle), np.sin(angle)
            left = x + reach * dx + (0 if dx > 0.3 else -width if dx < -0.3 else -width / 2)
            low = y + reach * dy - height / 2 + (dy * height / 2)
            found.append(((left, low, left + width, low + height), reach))
    return found


def _cost(found: tuple[_Box, float], taken: list[_Box], frame: _Box) -> float:
    box, reach = found
    cost = reach
    for other in taken:
        wide = min(box[2], other[2]) - max(box[0], other[0])
        high = min(box[3], other[3]) - max(box[1], other[1])
        if wide > 0 and high > 0:
            cost += 100 + wide * high
    outside = (
        max(0, frame[0] - box[0])
        + max(0, box[2] - frame[2])
        + max(0, frame[1] - box[1])
        + max(0, box[3] - frame[3])
    )
    return cost + 60 * outside
