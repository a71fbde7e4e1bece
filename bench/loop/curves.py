"""When a run of the loop tier first reaches a level, and which jumps it has behind it by then.

A run is measured every so many steps, after the jump of that step if there is one. Where it came
between two measurements is interpolated; a jump is no slope, so nothing is interpolated across one
where the loss before it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.plan.loop_row import Jump, LoopRow
from weightcast.bench.plan.loop_settings import READ_OUT

Doubles = NDArray[np.float64]

#: What is read of a run: its weights, a moving average of them, or whichever of these is best. A
#: forecast that is a read-out itself is read as it is.
READOUTS = ("raw", "average", "tuned")
#: The window that stands for weights as they are.
RAW = 0
#: What a target is a level of.
KINDS = ("train_loss", "test_accuracy")
#: Measurements that an accuracy must stay at a level, the first included.
SUSTAINED = 3
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Arrival:
    """Where a run reached a level.

    Attributes
    ----------
    step : float
    jumps : int
        How many of its jumps were made by then.
    """

    step: float
    jumps: int


def average_prefix(window: int) -> str:
    """Return what begins the names of a moving average's curves; nothing for raw weights'."""
    return f"average-{window}_" if window else ""


def windows_of(row: LoopRow, readout: str) -> list[int]:
    """Return the windows among which a read-out of a run may choose; `RAW` for the weights.

    A run that measured nothing has none; a read-out's forecasts are read as they are.
    """
    if readout == "raw" or row["use"] == READ_OUT:
        return [RAW]
    ends = "_train_loss"
    averages = sorted(
        int(name.removeprefix("average-").removesuffix(ends))
        for name in row["measured"]
        if name.startswith("average-") and name.endswith(ends)
    )
    return averages if readout == "average" else [RAW, *averages]


def curve(row: LoopRow, kind: str, window: int = RAW) -> tuple[Doubles, Doubles]:
    """Return the steps and values of a run's curve; NaN where a value was not finite."""
    measured = row["measured"]
    name = average_prefix(window) + kind
    steps = np.asarray(measured.get("step", []), dtype=np.float64)
    return steps, np.asarray(measured.get(name, []), dtype=np.float64)


def jumps_of(row: LoopRow) -> list[Jump]:
    """Return a run's jumps in order, without entries that stand for all syncs or readings."""
    return [jump for jump in row["jumps"] if "accepted" in jump]


def accepted_share(jumps: Sequence[Jump]) -> float:
    """Return the share of jumps that were taken; NaN without jumps."""
    return float(np.mean([jump["accepted"] for jump in jumps])) if jumps else np.nan


def arrival(row: LoopRow, kind: str, level: float, window: int = RAW) -> Arrival | None:
    """Find where a run first reaches a level; None where it never does.

    A train loss reaches it at the first measurement at or below it, and the step is interpolated
    linearly in log loss from the measurement before. Where raw weights jumped in between, the loss
    before and after the jump stand in that line as two more points at one step: a level that the
    jump itself reached is reached at the jump's step, and the jump is paid for.

    A test accuracy reaches it at the first measurement from which it stays at or above it for
    `SUSTAINED` measurements, or to the end; the step is interpolated linearly. Accuracies before
    jumps are not measured: all jumps are paid for that the measurement has behind it. The same
    holds for the moving average, into which a jump enters with the step after it.
    """
    steps, values = curve(row, kind, window)
    held = values <= level if kind == "train_loss" else _stays_at(values, level)
    found = np.flatnonzero(held)
    if not len(found):
        return None
    last = int(found[0])
    jumps = jumps_of(row)
    at = [int(jump["step"]) for jump in jumps]
    behind = int(np.searchsorted(at, steps[last], side="left" if window else "right"))
    if last == 0:
        return Arrival(float(steps[0]), behind)
    ends = (steps[last - 1], values[last - 1]), (steps[last], values[last])
    if kind == "test_accuracy":
        return Arrival(_between(*ends, level), behind)
    if window:
        return Arrival(_between_logs(*ends, level), behind)
    return _through_jumps(*ends, level, jumps, behind)


def sustained(accuracies: Doubles) -> Doubles:
    """Return from each measurement the highest level that it and those after it stay at."""
    padded = np.concatenate([accuracies, np.full(SUSTAINED - 1, np.inf)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, SUSTAINED)
    lowest: Doubles = windows.min(axis=1)  # NaN where one of them is
    return lowest


def _stays_at(accuracies: Doubles, level: float) -> NDArray[np.bool_]:
    return sustained(accuracies) >= level if len(accuracies) else np.zeros(0, dtype=bool)


def _through_jumps(
    start: tuple[float, float],
    end: tuple[float, float],
    level: float,
    jumps: Sequence[Jump],
    behind: int,
) -> Arrival:
    """Find where the loss came to the level between two measurements, jumps in between known."""
    points = [(start, 0)]
    for made, jump in enumerate(jumps[:behind]):
        step = float(jump["step"])
        if step <= start[0]:
            continue
        points.append(((step, _number(jump["before"])), made))
        if jump["accepted"] and step < end[0]:
            points.append(((step, _number(jump["after"])), made + 1))
    points.append((end, behind))
    known = [points[0], *(point for point in points[1:] if np.isfinite(point[0][1]))]
    last = next(i for i in range(1, len(known)) if known[i][0][1] <= level)
    return Arrival(_between_logs(known[last - 1][0], known[last][0], level), known[last][1])


def _between(start: tuple[float, float], end: tuple[float, float], level: float) -> float:
    """Return the step at which a straight line meets a level; the end's where it has no start."""
    (first, high), (last, low) = start, end
    if not np.isfinite(high) or high == low:
        return float(last)
    return float(first + (last - first) * (high - level) / (high - low))


def _between_logs(start: tuple[float, float], end: tuple[float, float], level: float) -> float:
    values = np.array([start[1], end[1], level])
    high, low, wanted = np.log(np.maximum(values, _TINY)).tolist()  # NaN stays
    return _between((start[0], high), (end[0], low), wanted)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
