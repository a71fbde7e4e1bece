"""One run for the eye: a few coordinates with their forecasts, and the run's main plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from weightcast.reports.figures import INK, draw, slug, tell
from weightcast.reports.palette import Look
from weightcast.reports.view import Task, View

Doubles = NDArray[np.float64]

#: Methods in a picture; more lines than that hide each other.
MOST = 6
_ALWAYS = ("last-value", "damped-line", "lfd2")


@dataclass(frozen=True)
class Example:
    """A task's example run as drawn."""

    task: Task
    run: int
    explained: float
    methods: list[str]
    coordinates: list[Markup]
    plane: Markup


def make_example(view: View, task: Task) -> Example | None:
    """Draw a task's example run; None where the folder holds none."""
    found = {
        e["label"]: e["content"]
        for e in view.results.examples
        if e["dataset"] == task.dataset and e["context"] == task.context
    }
    truth = found.pop("", None)
    if truth is None:
        return None
    methods = _choose([label for label in view.labels if label in found])
    forecasts = {label: found[label] for label in methods}
    looks = {label: view.looks[label] for label in methods}
    coordinates = [
        _coordinate(task, truth, index, forecasts, looks) for index in range(len(truth["values"]))
    ]
    return Example(
        task,
        int(truth["run"]),
        float(truth["explained"]),
        methods,
        coordinates,
        _plane(task, truth, forecasts, looks),
    )


def _choose(labels: list[str]) -> list[str]:
    """Take the well-known ones and fill up with the best; keep the order."""
    chosen = [label for label in _ALWAYS if label in labels]
    for label in labels:
        if len(chosen) < MOST and label not in chosen:
            chosen.append(label)
    return [label for label in labels if label in chosen]


def _coordinate(
    task: Task,
    truth: Mapping[str, Any],
    index: int,
    forecasts: Mapping[str, Any],
    looks: Mapping[str, Look],
) -> Markup:
    name = str(truth["coordinates"][index])
    path = np.asarray(truth["values"][index], dtype=np.float64)
    low, high = _limits(path)

    def paint(axes: Axes) -> None:
        axes.axvspan(0, task.context, color=INK, alpha=0.07, linewidth=0)
        axes.plot(range(len(path)), path, color=INK, linewidth=2.0, alpha=0.85)
        for label, content in forecasts.items():
            values = np.asarray(content["values"][index], dtype=np.float64)
            steps = np.arange(task.context, task.context + 1 + len(values))
            joined = np.concatenate([path[task.context : task.context + 1], values])
            marks = _line(axes, steps, joined, (low, high), looks[label])
            said = f"{values[-1]:.3g} at the last snapshot, where the run has {path[-1]:.3g}"
            tell(marks, label, said)
        axes.set_xlim(0, len(path) - 1)
        axes.set_ylim(low, high)
        axes.set_title(name, loc="left")
        axes.set_xlabel("snapshot")
        axes.locator_params(axis="both", nbins=5)

    return draw(
        slug("coordinate", task.dataset, task.context, index),
        f"Coordinate {name} of the example run of {task.title} and its forecasts",
        paint,
        size=(330, 230),
        margins=(52, 10, 40, 22),
    )


def _plane(
    task: Task, truth: Mapping[str, Any], forecasts: Mapping[str, Any], looks: Mapping[str, Look]
) -> Markup:
    path = np.asarray(truth["plane"], dtype=np.float64)
    x_limits, y_limits = _limits(path[:, 0], 0.4), _limits(path[:, 1], 0.8)
    # Where a run is nearly straight, its noise across would fill the frame and hide all else.
    lacking = 0.35 * (x_limits[1] - x_limits[0]) - (y_limits[1] - y_limits[0])
    if lacking > 0:
        y_limits = (y_limits[0] - lacking / 2, y_limits[1] + lacking / 2)

    def paint(axes: Axes) -> None:
        axes.plot(*path[: task.context + 1].T, color=INK, linewidth=5, alpha=0.16)
        axes.plot(*path.T, color=INK, linewidth=2.0, alpha=0.85)
        origin = path[task.context]
        for label, content in forecasts.items():
            if content["plane"] is not None:
                points = np.vstack([origin, np.asarray(content["plane"], dtype=np.float64)])
                x = _near(points[:, 0], x_limits)
                marks = _line(axes, x, points[:, 1], y_limits, looks[label], end=True)
                left = float(np.linalg.norm(points[-1] - path[-1]))
                # A run that ends where it was has no way to measure by.
                moved = float(np.linalg.norm(path[-1] - origin)) or 1.0
                tell(marks, label, f"in the plane, ends {left / moved:.2f} of the way from its end")
        axes.plot(*origin, marker="o", markersize=6, color=INK)
        axes.plot(*path[-1], marker="o", markersize=7, markerfacecolor="none", color=INK)
        axes.set_xlim(*x_limits)
        axes.set_ylim(*y_limits)
        axes.set_title("plane of the run's two main directions", loc="left")
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        axes.locator_params(axis="both", nbins=5)

    return draw(
        slug("plane", task.dataset, task.context),
        f"The example run of {task.title} and its forecasts in the plane of its main directions",
        paint,
        size=(330, 230),
        margins=(52, 10, 40, 22),
    )


def _line(
    axes: Axes,
    x: NDArray[Any],
    y: Doubles,
    limits: tuple[float, float],
    look: Look,
    *,
    end: bool = False,
) -> list[Line2D]:
    y = _near(y, limits)
    dashes = look.dash or (None, None)
    drawn = axes.plot(x, y, color=look.colour, dashes=dashes, linewidth=1.5, alpha=0.95)
    if end:
        drawn += axes.plot(x[-1:], y[-1:], color=look.colour, marker=look.marker, markersize=5)
    return drawn


def _limits(path: Doubles, share: float = 0.3) -> tuple[float, float]:
    """Limit an axis by the truth with a margin: methods that explode run out of the frame."""
    low, high = float(path.min()), float(path.max())
    margin = share * (high - low) or max(abs(high), 1e-6)
    return low - margin, high + margin


def _near(values: Doubles, limits: tuple[float, float]) -> Doubles:
    """Keep far values near enough to the frame for an SVG's coordinates."""
    room = 20 * (limits[1] - limits[0])
    kept: Doubles = np.clip(values, limits[0] - room, limits[1] + room)
    return kept
