"""Train loss over step-equivalents: one method's runs beside tuned plain training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from weightcast.bench.loop.targets import Target
from weightcast.reports.figures import INK, SMALLEST, draw, log_axis, log_range, tell
from weightcast.reports.labels import Label, label_ends, short
from weightcast.reports.loop_view import RunCurves
from weightcast.reports.palette import Look

#: A method's curve is cut where it has cost this many times the budget of steps.
FURTHEST = 1.5
_LONGEST = 22


def loss_limits(curves: Sequence[RunCurves], targets: Sequence[Target]) -> tuple[float, float]:
    """Return limits of the loss axis that all pictures of a data set share."""
    found = [target.level for target in targets]
    for one in curves:
        found += [float(loss) for loss in one.losses[np.isfinite(one.losses)]]
    return log_range([loss for loss in found if loss > 0])


def loop_curves_plot(
    name: str,
    title: str,
    own: RunCurves,
    beside: Sequence[RunCurves],
    targets: Sequence[Target],
    limits: tuple[float, float],
    longest: int,
    looks: Mapping[str, Look],
) -> Markup:
    """Draw a method's loss with its jumps.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    own : RunCurves
        Of the method that the picture is about.
    beside : sequence of RunCurves
        Plain training, and the null row.
    targets : sequence of Target
        Of the train loss, drawn as lines.
    limits : tuple of float
        Of the loss axis.
    longest : int
        Letters of the longest label of all pictures that stand together, so that they are one size.
    looks : mapping of str to Look
    """
    low, high = limits
    budget = max(float(one.at[-1]) for one in (beside or [own]))
    right = min(max(float(one.at[-1]) for one in (own, *beside)), FURTHEST * budget)

    def paint(axes: Axes) -> None:
        log_axis(axes, "y", low, high)
        axes.set_xlim(0, right)
        for target in targets:
            axes.axhline(target.level, color=INK, linewidth=0.9, dashes=(4, 3))
            axes.annotate(
                f"{target.name} target",
                xy=(1, target.level),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                fontsize=SMALLEST,
                alpha=0.75,
            )
        ends = []
        for one in (*beside, own):
            median = _paint_runs(axes, one, looks[one.label], bold=one is own)
            there = np.isfinite(median) & (one.at <= right)
            if there.any():
                last = float(np.clip(median[there][-1], low, high))
                ends.append(Label(right, last, short(one.label, _LONGEST), looks[one.label].colour))
        _paint_jumps(axes, own, looks[own.label].colour)
        label_ends(axes, ends)
        axes.set_xlabel("step-equivalents")
        axes.set_ylabel("train loss")

    margin = 22 + 5.8 * min(longest, _LONGEST)
    return draw(name, title, paint, size=(320 + margin, 270), margins=(50, margin, 42, 12))


def _paint_runs(
    axes: Axes, one: RunCurves, look: Look, *, bold: bool
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Draw the median over runs and the band from the lowest to the highest; return the median."""
    # A run that is not finite counts as the highest loss: the median of what is left would flatter.
    filled = np.where(np.isfinite(one.losses), one.losses, np.inf)
    median = np.median(filled, axis=0)
    median = np.where(np.isfinite(median), median, np.nan)
    worst = np.where(np.isfinite(filled), filled, 1e30).max(axis=0)
    axes.fill_between(
        one.at, filled.min(axis=0).clip(max=1e30), worst, color=look.colour, alpha=0.15, linewidth=0
    )
    line = axes.plot(
        one.at,
        median,
        color=look.colour,
        dashes=look.dash or (None, None),
        linewidth=2.0 if bold else 1.3,
    )
    known = np.flatnonzero(np.isfinite(median))
    if len(known):
        end = known[-1]
        tell(line, one.label, f"median train loss {median[end]:.3g} after {one.at[end]:.0f}")
    return median


def _paint_jumps(axes: Axes, own: RunCurves, colour: str) -> None:
    """Draw the first run with its jumps, from the loss before to the loss after."""
    if own.jumps:
        # A measurement at a jump's step is of what the jump led to; a stable sort keeps that order.
        points = [(jump.at, jump.before) for jump in own.jumps]
        points += [(jump.landed, jump.after) for jump in own.jumps if jump.accepted]
        points += zip(own.at.tolist(), own.losses[0].tolist(), strict=True)
        points.sort(key=lambda point: point[0])
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.8)
    for jump in own.jumps:
        if not (np.isfinite(jump.before) and np.isfinite(jump.after)):
            continue
        lower = jump.after <= jump.before
        axes.plot(
            [jump.landed],
            [jump.after],
            marker="x" if not jump.accepted else "v" if lower else "^",
            markersize=5.5,
            markerfacecolor=colour if lower else "none",
            markeredgecolor=INK if not lower or not jump.accepted else colour,
        )
