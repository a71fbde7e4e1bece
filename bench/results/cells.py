"""Reading the cells of a store, column by column: a folder may hold a hundred thousand."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.store.cell_chunk import CellChunk
from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.store.stored import FitRow
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.results.horizons import LABELS as HORIZON_LABELS
from weightcast.bench.scoring.metrics import WEIGHT_METRICS

if TYPE_CHECKING:
    import pandas as pd

#: What identifies a cell's row, in the order in which it is exported.
IDENTITY = (
    "suite", "dataset", "track", "split", "rotation", "repeat", "context", "horizon_set", "method",
    "params", "chosen", "run", "tier", "status", "reason", "coverage", "coordinates",
)  # fmt: skip

#: Tracks of a data set itself; the others are shifts between two.
OWN = ("main", "fine-tune")

#: What tells tasks apart.
PLACE = ("dataset", "trained_on", "track", "split", "context")

#: The table of errors at native horizons; ``peer`` is the label of the method whose they are.
AT_NATIVE = ("peer", "horizons", "label", *PLACE, "run", "error")

#: What is measured of every network; a column each wherever one was measured, if only of gaps.
FUNCTION_METRICS = (
    "train_loss_origin", "train_loss_last", "loss_change_last", "steps_gained_last",
    "steps_gained_censored_last", "true_train_loss_last",
)  # fmt: skip

#: What a cell cost. A fit's seconds stand in all rows of its cells.
COMPUTE = (
    "fit_seconds", "fit_cpu_seconds", "fit_memory_bytes", "training_runs_seconds",
    "predict_seconds", "predict_cpu_seconds", "predict_seconds_per_million", "peak_memory_bytes",
    "evaluations", "parameters", "flops_per_coordinate", "tuning_configurations",
    "tuning_seconds", "break_even_uses", "network_seconds", "scoring_seconds", "cell_seconds",
    "overhead_seconds", "jobs", "threads",
)  # fmt: skip

# Of the fit, and of the cell itself, as they are stored; with a cell's own sight of its fit's cost.
_OF_FIT = (
    "suite", "dataset", "track", "split", "rotation", "repeat", "context", "method", "params",
    "chosen", "training_runs_seconds", "parameters", "flops_per_coordinate", "threads", "machine",
    "trained_on",
)  # fmt: skip
_OF_CELL = (
    "run", "tier", "horizon_set", "status", "reason", "coverage", "coordinates", "predict_seconds",
    "predict_cpu_seconds", "peak_memory_bytes", "evaluations", "network_seconds",
    "scoring_seconds", "cell_seconds", "fit_seconds", "fit_cpu_seconds", "fit_memory_bytes", "jobs",
)  # fmt: skip

_ORDER = "ORDER BY dataset, context, method, params, rotation, repeat, run, tier DESC"
_CELLS = f"""
SELECT fit, run, tier, horizon_set, cells.status, cells.reason, cells.traceback, coverage,
    coordinates, metrics, curve, predict_seconds, predict_cpu_seconds, peak_memory_bytes,
    evaluations, network_seconds, scoring_seconds, cell_seconds, cells.fit_seconds,
    cells.fit_cpu_seconds, cells.fit_memory_bytes, max(cells.jobs, cells.fit_jobs) AS jobs
FROM cells JOIN fits ON cells.fit = fits.key {_ORDER}
"""
_FITS = "SELECT * FROM fits"

Curve = NDArray[np.float64]
Numbers = NDArray[Any]


@dataclass
class Cells:
    """The cells of a folder; see `weightcast.bench.results.tables.Results` for each part."""

    cells: pd.DataFrame
    native: pd.DataFrame
    at_native: pd.DataFrame
    curves: dict[tuple[str, str, int], list[Curve]]
    failures: list[dict[str, Any]]


def read_cells(store: Store) -> Cells:
    """Read all cells of a store.

    Raises
    ------
    InputError
        If a row is not as Weightcast writes it.
    """
    import pandas as pd

    fits = _Fits()
    for stored, fit in store.checked("fits", FitRow, _FITS):
        fits.add(stored, fit)
    reading = _Reading(fits)
    for chunk in store.cells(_CELLS):
        reading.add(chunk)
    table = reading.table()
    native = (table["horizon_set"] == "native").to_numpy(bool)
    names = reading.metric_names("function" in table["tier"].to_numpy()[~native])
    columns = [*IDENTITY, *names, *COMPUTE, "trained_on", "label"]
    table = table.reindex(columns=columns)
    return Cells(
        table[~native].reset_index(drop=True) if native.any() else table,
        table[native].reset_index(drop=True),
        pd.DataFrame(reading.at_native(), columns=list(AT_NATIVE)),
        reading.curves,
        reading.failures,
    )


class _Fits:
    """Columns of the fits, with what follows from their trials."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}
        self.columns: dict[str, list[Any]] = {
            name: [] for name in (*_OF_FIT, "label", "tuning_configurations", "tuning_seconds")
        }

    def add(self, stored: dict[str, Any], fit: FitRow) -> None:
        """Add a fit, as stored and as read."""
        self.place[fit.key] = len(self.place)
        told = stored | {
            "label": method_label(fit.method, stored["params"]),
            "tuning_configurations": len(fit.trials),
            # Part of fit_seconds. Folders from before trials were timed have none.
            "tuning_seconds": sum(trial.seconds for trial in fit.trials),
        }
        for name, column in self.columns.items():
            column.append(told[name])

    def of(self, place: int, names: Iterable[str]) -> dict[str, Any]:
        """Return some of a fit's columns."""
        return {name: self.columns[name][place] for name in names}


class _Reading:
    """Columns of the cells, filled a chunk at a time: arrays take a fifth of lists' memory."""

    def __init__(self, fits: _Fits) -> None:
        self._fits = fits
        self._fit: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
        self._rows = 0
        self._own: dict[str, list[Numbers]] = {name: [] for name in _OF_CELL}
        self._metrics: dict[str, list[Numbers]] = {}
        #: Metrics in the order of their first row, of cells on the common horizons and of others.
        self._seen: dict[str, dict[str, None]] = {"common": {}, "native": {}}
        self._asked: dict[tuple[Any, ...], dict[str, str]] = {}
        self._told: list[tuple[int, int, bool, Curve]] = []
        self.curves: dict[tuple[str, str, int], list[Curve]] = {}
        self.failures: list[dict[str, Any]] = []

    def add(self, chunk: CellChunk) -> None:
        """Add cells, as stored and as parsed."""
        columns = chunk.columns
        fit = [self._fits.place[key] for key in columns["fit"]]
        self._fit.append(np.array(fit, dtype=np.intp))
        for name, column in self._own.items():
            column.append(_array(columns[name]))
        alike: dict[tuple[Any, ...], list[int]] = {}
        kinds = zip(
            chunk.metrics, map(len, chunk.curves), columns["tier"], columns["horizon_set"],
            strict=True,
        )  # fmt: skip
        for row, (metrics, length, tier, horizons) in enumerate(kinds):
            alike.setdefault((horizons, tier, length, *metrics), []).append(row)
        #: The curve of each row that is on the common horizons, and whether on a sample.
        curves: list[tuple[Curve, bool] | None] = [None] * len(fit)
        filled: dict[str, Numbers] = {}
        for (horizons, tier, length, *names), rows in alike.items():
            values = zip(*(chunk.metrics[row].values() for row in rows), strict=True)
            found = dict(zip(names, map(_array, values), strict=True))
            if tier == "weights" and horizons == "common":
                drawn = _floats([chunk.curves[row] for row in rows]).reshape(len(rows), length)
                on_sample = "rel_sum" not in found and "rel_sum_sample" in found
                found |= _at_single(drawn, on_sample)
                for row, curve in zip(rows, drawn, strict=True):
                    curves[row] = curve, on_sample
            self._seen[horizons].update(dict.fromkeys(found))
            for name, part in found.items():
                _fill(filled, name, part, rows, len(fit))
        self._put(filled, len(fit))
        for row, place in enumerate(fit):
            if columns["horizon_set"][row] == "native":
                task = tuple(self._fits.of(place, PLACE).values())
                horizons = str(chunk.metrics[row]["horizons"])
                self._asked.setdefault(task, {})[self._fits.columns["label"][place]] = horizons
                continue
            ok = columns["status"][row] == "ok"
            if not ok:
                told = {name: columns[name][row] for name in (*_OF_CELL, "traceback")}
                self.failures.append(self._fits.of(place, (*_OF_FIT, "label")) | told)
            if (kept := curves[row]) is not None:
                self._keep(place, columns["run"][row], ok, *kept)

    def _put(self, filled: dict[str, Numbers], count: int) -> None:
        """Lengthen every metric's column by a chunk; what the chunk has none of is empty."""
        for name in {**self._metrics, **filled}:
            missing = np.full(self._rows, np.nan)
            column = self._metrics.setdefault(name, [missing] if self._rows else [])
            column.append(filled.get(name, np.full(count, np.nan)))
        self._rows += count

    def _keep(self, fit: int, run: int, ok: bool, curve: Curve, on_sample: bool) -> None:
        """Keep a cell's curve, for the charts and for errors at others' native horizons."""
        if not on_sample:
            self._told.append((fit, run, ok, curve))
        task = self._fits.of(fit, ("label", "dataset", "context", "split", "track"))
        label, dataset, context, split, track = task.values()
        if len(curve) and split == WHOLE and track in OWN:
            self.curves.setdefault((label, dataset, context), []).append(curve)

    def table(self) -> pd.DataFrame:
        """Return the cells with all columns, those of their fits and what follows among them."""
        import pandas as pd

        place = np.concatenate(self._fit)
        columns = {name: _array(values)[place] for name, values in self._fits.columns.items()}
        for filled in (self._own, self._metrics):
            columns |= {name: _column(filled.pop(name)) for name in list(filled)}
        if len(place):
            columns |= _derived(columns, len(place))
        # Texts stay the objects they are, each kept once: pandas' own would be copied, and are slow
        # to go over one by one.
        series = {name: pd.Series(c, dtype=c.dtype, copy=False) for name, c in columns.items()}
        return pd.DataFrame(series, copy=False)

    def at_native(self) -> list[dict[str, Any]]:
        """Read off curves what every cell errs at each native horizon that its task has."""
        found = []
        for fit, run, ok, curve in self._told:
            place = self._fits.of(fit, PLACE)
            for peer, horizons in self._asked.get(tuple(place.values()), {}).items():
                there = [curve[h - 1] for h in _numbers(horizons) if h <= len(curve)] if ok else []
                moved = [error for error in there if not np.isnan(error)]
                error = float(np.mean(moved)) if moved else np.nan
                about = {"peer": peer, "horizons": horizons, "run": run, "error": error}
                found.append(about | place | self._fits.of(fit, ["label"]))
        return found

    def metric_names(self, with_function: bool) -> list[str]:
        """List the metrics' columns: the weights tier's in their order, then the others."""
        first = [*WEIGHT_METRICS, "excluded_horizons", "excluded_tensors"]
        first += [f"{name}_sample" for name in WEIGHT_METRICS]
        known = {*IDENTITY, *COMPUTE, *first}
        others = {"machine": None, **self._seen["common"], **self._seen["native"]}
        names = [name for name in others if name not in known]
        if with_function:
            names += [name for name in FUNCTION_METRICS if name not in names]
        return first + (names if self._rows else [])


def _derived(columns: dict[str, Numbers], count: int) -> dict[str, Numbers]:
    """Compute what follows from stored numbers."""

    def number(name: str) -> Numbers:
        return columns[name].astype(np.float64) if name in columns else np.full(count, np.nan)

    predict, network = number("predict_seconds"), np.nan_to_num(number("network_seconds"))
    forecast = number("coverage") * number("coordinates")
    gained, step = number("steps_gained_last"), number("seconds_per_step")
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = gained * step - predict
        spent = number("fit_seconds") + number("training_runs_seconds")
        return {
            # What the harness adds to what the method and the real network take.
            "overhead_seconds": number("cell_seconds") - (predict + network),
            "predict_seconds_per_million": np.where(forecast > 0, 1e6 * predict / forecast, np.nan),
            # After how many uses the method has paid for its fit and the training runs that it
            # needed; infinite where a use saves no time at all.
            "break_even_uses": np.where(
                np.isnan(gained * step), np.nan, np.where(saved > 0, spent / saved, np.inf)
            ),
        }


def _at_single(curves: Curve, on_sample: bool) -> dict[str, Numbers]:
    """Read errors at single horizons off curves; NaN where the run had hardly moved."""
    found: dict[str, Numbers] = {}
    length = curves.shape[1]
    for label in HORIZON_LABELS if length else ():
        horizon = length if label == "last" else int(label[1:])
        if horizon <= length:
            found[f"rel_{label}" + "_sample" * on_sample] = curves[:, horizon - 1]
    return found


def _floats(values: Sequence[Any]) -> Curve:
    """Return numbers as an array; None is NaN, and what no float can hold infinite."""
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        whole = np.array(values, dtype=object)
        return np.array([_float(one) for one in whole.flat]).reshape(whole.shape)


def _float(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _array(values: Sequence[Any]) -> Numbers:
    """Return a column as an array: of whole numbers or of floats where it can be, or as it is."""
    kinds = set(map(type, values))
    if str in kinds:
        texts = np.empty(len(values), dtype=object)
        texts[:] = [sys.intern(text) for text in values]
        return texts
    if kinds == {int} and max(map(abs, values)) < 2**53:
        return np.array(values, dtype=np.int64)
    return _floats(values)


def _fill(
    columns: dict[str, Numbers], name: str, part: Numbers, rows: list[int], count: int
) -> None:
    """Put values at some rows of a column of a chunk, NaN where it has none."""
    if len(part) == count:
        columns[name] = part
        return
    column = columns.get(name)
    if column is None:
        # A sum of whole numbers and NaN is one of floats.
        kind = object if part.dtype == object else np.float64
        column = columns[name] = np.full(count, np.nan, dtype=kind)
    column[rows] = part


def _column(parts: list[Numbers]) -> Numbers:
    return np.concatenate(parts) if parts else np.zeros(0)


def _numbers(ranges: str) -> list[int]:
    """Read what `weightcast.datasets.dataset.seed_ranges` wrote.

    Examples
    --------
    >>> _numbers("1-3,5")
    [1, 2, 3, 5]
    """
    ends = [[int(end) for end in part.split("-")] for part in ranges.split(",")]
    return [number for part in ends for number in range(part[0], part[-1] + 1)]
