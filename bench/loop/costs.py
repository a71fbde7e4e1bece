"""What it costs a run of the loop tier to reach a target, in step-equivalents.

A step-equivalent is the time of one plain step of one run alone. At step t a run has cost t, and
(seconds + forward passes · forward_seconds) / step_seconds for each jump so far; with Lookahead
⌊t / every⌋ · seconds / step_seconds. A read-out has cost t and, once there is one, the seconds of
one forecast, the one that is at the target. A hiccup of the machine in one group must not decide:
the seconds of a jump are the median over all jumps of the data set, method and optimizer, those of
a step and of a forward pass the median over all rows of the data set and optimizer.

A run that misses the target counts with what it has cost at the end of the budget (a restricted
mean), and is counted as a miss. A run whose status is not ``ok`` is a miss and a failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.loop.curves import RAW, Arrival, Doubles, arrival, jumps_of, windows_of
from weightcast.bench.loop.targets import Target
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.loop_row import LoopRow


@dataclass(frozen=True, order=True)
class Configuration:
    """What is tuned: where in the pool, and how far along its displacement a jump goes.

    Attributes
    ----------
    optimizer, schedule : str
    learning_rate, length : float
    pool_rate : float
    horizon : int
    momentum : float
        As in `weightcast.bench.plan.loop_settings.LoopRun`.
    window : int
        Of the moving average that is read out; 0 where weights or forecasts are read as they are.
    """

    optimizer: str
    schedule: str
    learning_rate: float
    length: float
    pool_rate: float
    horizon: int = 0
    momentum: float = 0.0
    window: int = RAW

    def __str__(self) -> str:
        where = f"{self.optimizer}, {self.schedule}, {self.learning_rate:g}"
        where += f", length {self.length:g}" if self.length != 1 else ""
        where += f", horizon {self.horizon}" if self.horizon else ""
        where += f", momentum {self.momentum:g}" if self.momentum else ""
        return f"{where}, average {self.window}" if self.window else where

    @property
    def trained_as(self) -> tuple[str, str, float]:
        """What plain training has a like of: all but the jumps."""
        return self.optimizer, self.schedule, self.learning_rate

    @property
    def of_the_pool(self) -> tuple[str, str, float]:
        """What both sides have equally many tries at."""
        return self.optimizer, self.schedule, self.pool_rate


@dataclass(frozen=True)
class Price:
    """Median seconds that a data set's runs of one method and optimizer are charged by.

    Attributes
    ----------
    jump, step, forward : float
    sync, every : float
        Of Lookahead: seconds of a sync, and steps from one to the next; 0 elsewhere.
    reading : float
        Of a read-out: seconds of a forecast; 0 elsewhere.
    """

    jump: float
    step: float
    forward: float
    sync: float = 0.0
    every: float = 0.0
    reading: float = 0.0

    def equivalents(self, row: LoopRow, at: Arrival) -> float:
        """Return the step-equivalents that a run has cost when it arrives."""
        jumps = jumps_of(row)[: at.jumps]
        seconds = sum(self.jump + jump["forwards"] * self.forward for jump in jumps)
        if self.every:
            seconds += at.step // self.every * self.sync
        if at.step >= min((entry["step"] for entry in row["jumps"]), default=np.inf):
            seconds += self.reading
        # A run without jumps needs no time of a step, and a failed row may have none.
        return at.step + seconds / self.step if seconds else at.step


@dataclass(frozen=True)
class CostTable:
    """One method's runs on one data set; axes are configurations and seeds.

    Attributes
    ----------
    configurations : tuple of Configuration
        The method's own, in order.
    cost : ndarray, shape (configurations, seeds)
        Restricted step-equivalents to the target; NaN where there is no run.
    seconds : ndarray, shape (configurations, seeds)
        The same in seconds.
    reached, failed : ndarray of bool, shape (configurations, seeds)
    fit : ndarray, shape (configurations,)
        Step-equivalents of fitting: training runs' steps, and the seconds of the fit.
    rows : dict of (int, int) to LoopRow
        The rows themselves, by configuration and seed.
    """

    configurations: tuple[Configuration, ...]
    cost: Doubles
    seconds: Doubles
    reached: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    fit: Doubles
    rows: dict[tuple[int, int], LoopRow]


@dataclass(frozen=True)
class DataSetCosts:
    """All methods' costs on one data set.

    Attributes
    ----------
    validation, report : tuple of int
        Seeds; the tables have those of validation first.
    tables : dict of str to CostTable
        By method label.
    """

    dataset: str
    target: Target
    validation: tuple[int, ...]
    report: tuple[int, ...]
    tables: dict[str, CostTable]


def label_of(row: LoopRow) -> str:
    """Name a row's method as `weightcast.bench.plan.loop_settings.LoopGroup.label` does."""
    return method_label(row["method"], row["params"], row["accept"], row["use"])


def budget_of(rows: Sequence[LoopRow]) -> float:
    """Return the steps of a run of a data set: the last at which any was measured; 0 with none."""
    return float(max((row["measured"]["step"][-1] for row in rows if row["measured"]), default=0))


def data_set_costs(
    dataset: str, rows: Sequence[LoopRow], target: Target, readout: str, budget: float
) -> DataSetCosts:
    """Take the costs of all scored runs of one data set.

    Parameters
    ----------
    dataset : str
    rows : sequence of LoopRow
        Of this data set; calibration runs count for the seconds of a step alone.
    target : Target
    readout : str
        As in `curves.READOUTS`.
    budget : float
    """
    prices = _prices(rows)
    scored = [row for row in rows if row["seed_role"] in ("validation", "report")]
    validation, report = (
        tuple(sorted({row["seed"] for row in scored if row["seed_role"] == role}))
        for role in ("validation", "report")
    )
    seed_index = {("validation", seed): i for i, seed in enumerate(validation)}
    seed_index |= {("report", seed): len(validation) + i for i, seed in enumerate(report)}
    rows_of: dict[str, list[LoopRow]] = {}
    for row in scored:
        rows_of.setdefault(label_of(row), []).append(row)
    tables = {
        label: _table(found, label, prices, target, readout, budget, seed_index)
        for label, found in rows_of.items()
    }
    return DataSetCosts(dataset, target, validation, report, tables)


def configuration_of(row: LoopRow, window: int = RAW) -> Configuration:
    """Return what a row's run, read out by a window, was one try of."""
    return Configuration(
        row["optimizer"],
        row["schedule"],
        float(row["learning_rate"]),
        float(row["length"]),
        float(row["pool_rate"]),
        row["horizon"],
        float(row["momentum"]),
        window,
    )


def _table(
    own: Sequence[LoopRow],
    label: str,
    prices: dict[tuple[str, str], Price],
    target: Target,
    readout: str,
    budget: float,
    seeds: Mapping[tuple[str, int], int],
) -> CostTable:
    # A run that measured nothing stands with every window that others have.
    windows = sorted({window for row in own for window in windows_of(row, readout)}) or [RAW]
    tries = [(row, window) for row in own for window in windows]
    configurations = tuple(sorted({configuration_of(*one) for one in tries}))
    index = {configuration: i for i, configuration in enumerate(configurations)}
    rows = {
        (index[configuration_of(row, window)], seeds[row["seed_role"], row["seed"]]): row
        for row, window in tries
    }
    shape = len(configurations), len(seeds)
    cost, seconds = np.full(shape, np.nan), np.full(shape, np.nan)
    reached, failed = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for where, row in rows.items():
        price = prices[label, row["optimizer"]]
        failed[where] = row["status"] != "ok"
        at = (
            None
            if failed[where]
            else arrival(row, target.kind, target.level, configurations[where[0]].window)
        )
        reached[where] = at is not None
        at = at or Arrival(budget, len(row["jumps"]))
        # A target met before the first step would have no logarithm.
        cost[where] = max(1.0, price.equivalents(row, at))
        seconds[where] = cost[where] * price.step
    fit = _fits(rows, label, prices, shape[0])
    return CostTable(configurations, cost, seconds, reached, failed, fit, rows)


def _fits(
    rows: dict[tuple[int, int], LoopRow],
    label: str,
    prices: dict[tuple[str, str], Price],
    count: int,
) -> Doubles:
    """Return what fitting cost at each configuration, in step-equivalents."""
    kept: dict[int, list[LoopRow]] = {}
    for (i, _), row in rows.items():
        if row["status"] == "ok":
            kept.setdefault(i, []).append(row)
    fit = np.zeros(count)
    for i, some in kept.items():
        fit[i] = np.median([row["fit_steps"] for row in some])
        seconds = float(np.median([row["fit_seconds"] for row in some]))
        if seconds:
            fit[i] += seconds / prices[label, some[0]["optimizer"]].step
    return fit


def _prices(rows: Sequence[LoopRow]) -> dict[tuple[str, str], Price]:
    """Return the price of every method label and optimizer of one data set."""
    times: dict[str, list[tuple[float, float]]] = {}
    jumps: dict[tuple[str, str], list[float]] = {}
    syncs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    readings: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        group = label_of(row), row["optimizer"]
        known = times.setdefault(row["optimizer"], [])
        if row["step_seconds"] is not None:
            known.append((row["step_seconds"], row["forward_seconds"] or 0.0))
        jumps.setdefault(group, []).extend(jump["seconds"] for jump in jumps_of(row))
        syncs.setdefault(group, []).extend(
            (jump["seconds"], jump["every"]) for jump in row["jumps"] if "every" in jump
        )
        readings.setdefault(group, []).extend(
            jump["seconds"] for jump in row["jumps"] if "reads" in jump
        )
    found = {}
    for group, took in jumps.items():
        step, forward = _medians(times[group[1]])
        jump = float(np.median(took)) if took else 0.0
        sync, every = _medians(syncs[group]) if syncs[group] else (0.0, 0.0)
        reading = float(np.median(readings[group])) if readings[group] else 0.0
        found[group] = Price(jump, step, forward, sync, every, reading)
    return found


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    if not pairs:
        return np.nan, np.nan
    first, second = np.median(np.asarray(pairs, dtype=np.float64), axis=0)
    return float(first), float(second)
