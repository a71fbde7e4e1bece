"""Error over the horizon: one panel a task, one line a method."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from weightcast.reports.figures import CLIP, INK, draw, log_axis, log_range, slug, tell
from weightcast.reports.labels import Label, label_ends, short
from weightcast.reports.numbers import number
from weightcast.reports.view import Task, View

Doubles = NDArray[np.float64]


def median_curve(runs: Doubles) -> Doubles:
    """Return each horizon's median over the runs in which it is defined; NaN without any."""
    curve = np.full(runs.shape[1], np.nan)
    for j, column in enumerate(runs.T):
        there = column[~np.isnan(column)]
        if len(there):
            curve[j] = np.median(there)
    return curve


def horizon_plot(view: View, task: Task) -> Markup | None:
    """Draw a task's median error curves; None where no method has any.

    Parameters
    ----------
    view : View
    task : Task
    """
    curves: dict[str, Doubles] = {}
    for label in view.labels:
        runs = view.results.curves.get((label, task.dataset, task.context))
        if runs is not None and runs.ndim == 2:
            curve = median_curve(runs)
            if np.isfinite(curve).any():
                curves[label] = curve
    if not curves:
        return None
    everything = np.concatenate(list(curves.values()))
    low, high = log_range([*np.clip(everything[np.isfinite(everything)], 1e-4, CLIP), 1.0])
    high = min(high, CLIP)

    def paint(axes: Axes) -> None:
        log_axis(axes, "y", low, high)
        axes.axhline(1, color=INK, linewidth=0.9, dashes=(4, 3))
        length = max(len(curve) for curve in curves.values())
        axes.set_xlim(1, max(2, length))
        ends = []
        for label, curve in curves.items():
            look = view.looks[label]
            horizons = np.arange(1, len(curve) + 1)
            shown = np.clip(curve, low / 100, high * 100)
            line = axes.plot(
                horizons,
                shown,
                color=look.colour,
                dashes=look.dash or (None, None),
                marker=look.marker if len(curve) == 1 else None,
            )
            tell(line, label, _said(curve))
            last = float(shown[np.isfinite(shown)][-1])
            arrow = " ↑" if last > high else " ↓" if last < low else ""
            star = " *" if label in view.sampled else ""
            position = min(max(last, low), high)
            ends.append(
                Label(float(len(curve)), position, short(label) + star + arrow, look.colour)
            )
        label_ends(axes, ends)
        axes.set_xlabel("horizon, snapshots after the origin")
        axes.set_ylabel("error / distance moved")

    margin = 22 + 5.8 * max(len(short(label)) + 4 for label in curves)
    return draw(
        slug("horizon", task.dataset, task.context),
        f"Median error over the horizon on {task.title}",
        paint,
        size=(300 + margin, 330),
        margins=(50, margin, 42, 12),
    )


def _said(curve: Doubles) -> str:
    """Say a curve at its beginning, middle and end."""
    places = sorted({1, (len(curve) + 1) // 2, len(curve)})
    at = ", ".join(f"{number(float(curve[place - 1]))} at {place}" for place in places)
    return f"median error {at}"
