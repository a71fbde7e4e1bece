"""Error in weights against change in loss: one panel a task, one point a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from weightcast.reports.figures import CLIP, INK, SMALLEST, draw, log_axis, log_range, power, tell
from weightcast.reports.labels import Label, label_points, short
from weightcast.reports.numbers import number
from weightcast.reports.palette import Look

#: Changes in loss above this many times the median method's are drawn as arrows.
HIGHEST = 200.0
_ARROWS = {"↑": "^", "→": ">"}


@dataclass(frozen=True)
class Outcome:
    """A method's medians on a task: relative error and change in loss at the last horizon."""

    label: str
    error: float
    change: float


def rank_correlation(outcomes: Sequence[Outcome]) -> float:
    """Spearman's rank correlation of error and change; NaN for fewer than three."""
    from scipy.stats import spearmanr

    errors = np.array([o.error for o in outcomes])
    changes = np.array([o.change for o in outcomes])
    if len(outcomes) < 3 or np.ptp(errors) == 0 or np.ptp(changes) == 0:
        return float("nan")
    return float(spearmanr(errors, changes).statistic)


def function_plot(
    name: str, title: str, outcomes: Sequence[Outcome], truth: float, looks: Mapping[str, Look]
) -> Markup | None:
    """Draw change in loss against error in weights; None without any point.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    outcomes : sequence of Outcome
    truth : float
        The true later weights' own change in loss, drawn as a line; NaN for none.
    looks : mapping of str to Look
    """
    there = [o for o in outcomes if np.isfinite(o.error) and o.error > 0 and np.isfinite(o.change)]
    if not there:
        return None
    low, high = log_range([*(min(o.error, CLIP) for o in there), 1.0], pad=1.35)
    right = min(high, CLIP)
    sizes = np.abs([o.change for o in there if o.change != 0] or [1.0])
    scale = float(np.median(sizes))
    bent = float(sizes.max()) > 12 * scale
    # A network that diverges has losses of 10³⁰, beside which all others are one point.
    roof = HIGHEST * scale

    def paint(axes: Axes) -> None:
        log_axis(axes, "x", low, right)
        changes = [0.0, *(min(o.change, roof) for o in there)]
        changes += [truth] if np.isfinite(truth) else []
        if bent:
            axes.set_yscale("symlog", linthresh=scale)
            axes.yaxis.set_major_formatter(lambda v, _: _tick(v))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_yticks(_ticks(min(changes), max(changes), scale))
            axes.set_ylim(min(changes) - 0.4 * scale, max(changes) * 2.5 + 0.4 * scale)
        else:
            pad = 0.12 * (max(changes) - min(changes) or 1.0)
            axes.set_ylim(min(changes) - pad, max(changes) + pad)
        axes.axhline(0, color=INK, linewidth=0.9, dashes=(4, 3))
        axes.axvline(1, color=INK, linewidth=0.9, dashes=(4, 3))
        if np.isfinite(truth):
            axes.axhline(truth, color=INK, linewidth=0.9, alpha=0.45)
            axes.annotate(
                "true later weights",
                xy=(1, truth),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                fontsize=SMALLEST,
                alpha=0.7,
            )
        points = []
        for o in there:
            look = looks[o.label]
            x, y = min(o.error, right), min(o.change, roof)
            arrow = "↑" if o.change > roof else "→" if o.error > right else ""
            mark = axes.plot(
                [x],
                [y],
                linestyle="none",
                marker=_ARROWS.get(arrow, look.marker),
                markersize=7,
                color=look.colour,
                clip_on=False,
            )
            change = f"train loss {number(o.change, signed=True)}"
            tell(mark, o.label, f"median rel_final {number(o.error)}, {change}")
            points.append(Label(x, y, f"{short(o.label)} {arrow}".rstrip(), look.colour))
        label_points(axes, points)
        axes.set_xlabel("median rel_final (error in weights)")
        axes.set_ylabel("median change in train loss")

    return draw(name, title, paint, size=(400, 320), margins=(62, 18, 42, 14))


def _ticks(low: float, high: float, scale: float) -> list[float]:
    """Choose ticks of a bent axis: zero, about the linear part's ends, then decades."""
    unit = 10.0 ** np.floor(np.log10(scale))
    near = float(np.ceil(scale / unit) * unit)
    ticks = [0.0, near] + ([-near] if low < -0.5 * near else [])
    first = int(np.floor(np.log10(near))) + 1
    last = int(np.ceil(np.log10(max(high, near))))
    step = max(1, (last - first) // 5 + 1)
    return ticks + [10.0**k for k in range(first, last + 1, step) if 10.0**k > 2 * near]


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    return ("−" if value < 0 else "") + power(abs(float(f"{abs(value):.3g}")))
