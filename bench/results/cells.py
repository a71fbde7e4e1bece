"""Reading the cells of a store, column by column: a folder may hold a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.store.stored import FitRow, StoredCell
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

_CHUNK = 4096  # rows that are turned into columns at once

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
    for stored, cell in store.checked("cells", StoredCell, _CELLS):
        reading.add(stored, cell)
    table = reading.table()
    native = (table["horizon_set"] == "native").to_numpy(bool)
    names = reading.metric_names(native)
    columns = [*IDENTITY, *names, *COMPUTE, "trained_on", "label"]
    table = table.reindex(columns=columns)
    return Cells(
        table[~native].reset_index(drop=True),
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
    """Columns of the cells, filled row by row."""

    def __init__(self, fits: _Fits) -> None:
        self._fits = fits
        self._fit: list[int] = []
        self._own: dict[str, list[Any]] = {name: [] for name in _OF_CELL}
        self._metrics: dict[str, list[Any]] = {}
        #: Rows that are no columns yet.
        self._waiting: list[tuple[dict[str, Any], dict[str, Any]]] = []
        #: Metrics in the order of their first row, of cells on the common horizons and of others.
        self._seen: dict[str, dict[str, None]] = {"common": {}, "native": {}}
        self._asked: dict[tuple[Any, ...], dict[str, str]] = {}
        self._told: list[tuple[int, int, bool, Curve]] = []
        self.curves: dict[tuple[str, str, int], list[Curve]] = {}
        self.failures: list[dict[str, Any]] = []

    def add(self, stored: dict[str, Any], cell: StoredCell) -> None:
        """Add a cell, as stored and as read."""
        fit, metrics = self._fits.place[cell.fit], dict(cell.metrics)
        on_sample = "rel_sum" not in metrics and "rel_sum_sample" in metrics
        common = cell.tier == "weights" and cell.horizon_set == "common"
        curve = np.array(cell.curve, dtype=np.float64)  # None is NaN
        if common:
            metrics |= _at_single(curve, on_sample)
        self._fit.append(fit)
        self._seen[cell.horizon_set].update(dict.fromkeys(metrics))
        self._waiting.append((stored, metrics))
        if len(self._waiting) == _CHUNK:
            self._flush()
        if cell.horizon_set == "native":
            place = tuple(self._fits.of(fit, PLACE).values())
            asked = self._asked.setdefault(place, {})
            asked[self._fits.columns["label"][fit]] = str(metrics["horizons"])
            return
        if cell.status != "ok":
            names = {name: stored[name] for name in _OF_CELL} | {"traceback": cell.traceback}
            self.failures.append(self._fits.of(fit, (*_OF_FIT, "label")) | names)
        if common:
            self._keep(fit, cell, curve, on_sample)

    def _flush(self) -> None:
        """Turn what waits into columns."""
        before = len(self._fit) - len(self._waiting)
        for name, column in self._own.items():
            column.extend([stored[name] for stored, _ in self._waiting])
        for name in {**self._seen["common"], **self._seen["native"]}:
            column = self._metrics.setdefault(name, [np.nan] * before)
            column.extend([metrics.get(name, np.nan) for _, metrics in self._waiting])
        self._waiting.clear()

    def _keep(self, fit: int, cell: StoredCell, curve: Curve, on_sample: bool) -> None:
        """Keep a cell's curve, for the charts and for errors at others' native horizons."""
        if not on_sample:
            self._told.append((fit, cell.run, cell.status == "ok", curve))
        task = self._fits.of(fit, ("label", "dataset", "context", "split", "track"))
        label, dataset, context, split, track = task.values()
        if len(curve) and split == WHOLE and track in OWN:
            self.curves.setdefault((label, dataset, context), []).append(curve)

    def table(self) -> pd.DataFrame:
        """Return the cells with all columns, those of their fits and what follows among them."""
        import pandas as pd

        self._flush()
        place = np.array(self._fit, dtype=np.intp)
        fits = pd.DataFrame(self._fits.columns).take(place).reset_index(drop=True)
        table = pd.concat([fits, pd.DataFrame(self._own | self._metrics)], axis=1)
        return table.assign(**_derived(table)) if len(table) else table

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

    def metric_names(self, native: NDArray[np.bool_]) -> list[str]:
        """List the metrics' columns: the weights tier's in their order, then the others."""
        first = [*WEIGHT_METRICS, "excluded_horizons", "excluded_tensors"]
        first += [f"{name}_sample" for name in WEIGHT_METRICS]
        known = {*IDENTITY, *COMPUTE, *first}
        others = {"machine": None, **self._seen["common"], **self._seen["native"]}
        names = [name for name in others if name not in known]
        if "function" in np.array(self._own["tier"], dtype=object)[~native]:
            names += [name for name in FUNCTION_METRICS if name not in names]
        return first + (names if self._fit else [])


def _derived(table: pd.DataFrame) -> dict[str, Any]:
    """Compute what follows from stored numbers."""
    import pandas as pd

    def number(name: str) -> Numbers:
        if name not in table:
            return np.full(len(table), np.nan)
        values: Numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        return values

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


def _at_single(curve: Curve, on_sample: bool) -> dict[str, float]:
    """Read errors at single horizons off a curve; NaN where the run had hardly moved."""
    found: dict[str, float] = {}
    if not len(curve):
        return found
    for label in HORIZON_LABELS:
        horizon = len(curve) if label == "last" else int(label[1:])
        if horizon <= len(curve):
            found[f"rel_{label}" + "_sample" * on_sample] = float(curve[horizon - 1])
    return found


def _numbers(ranges: str) -> list[int]:
    """Read what `weightcast.datasets.dataset.seed_ranges` wrote.

    Examples
    --------
    >>> _numbers("1-3,5")
    [1, 2, 3, 5]
    """
    ends = [[int(end) for end in part.split("-")] for part in ranges.split(",")]
    return [number for part in ends for number in range(part[0], part[-1] + 1)]
