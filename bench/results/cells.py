"""Reading the cells of a store: a folder may hold a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.store.stored import FitRow
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.results.cell_columns import (
    CellColumns,
    Curve,
    Numbers,
    as_array,
)
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

# Of the fit, as it is stored.
_OF_FIT = (
    "suite", "dataset", "track", "split", "rotation", "repeat", "context", "method", "params",
    "chosen", "training_runs_seconds", "parameters", "flops_per_coordinate", "threads", "machine",
    "trained_on",
)  # fmt: skip

#: How fits are sorted, and so their cells; a fit's own cells go by run.
_ORDER = ("dataset", "context", "method", "params", "rotation", "repeat")

# In the order of writing: SQLite would sort all texts of a row with it.
_CELLS = """
SELECT fit, run, tier, horizon_set, status, reason, traceback, coverage, coordinates, metrics,
    curve, predict_seconds, predict_cpu_seconds, peak_memory_bytes, evaluations, network_seconds,
    scoring_seconds, cell_seconds, fit_seconds, fit_cpu_seconds, fit_memory_bytes,
    max(jobs, fit_jobs) AS jobs
FROM cells ORDER BY rowid
"""
_FITS = "SELECT * FROM fits"


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

    fits, cells = _Fits(), CellColumns()
    for stored, fit in store.checked("fits", FitRow, _FITS):
        fits.add(stored, fit)
    for chunk in store.cells(_CELLS):
        cells.add(chunk, [fits.place[key] for key in chunk.columns["fit"]])
    cells.sort(fits.ranks())
    native = cells.columns["horizon_set"] == "native"
    columns = [*IDENTITY, *_metric_names(cells, native), *COMPUTE, "trained_on", "label"]
    at_native = pd.DataFrame(_at_native(fits, cells), columns=list(AT_NATIVE))
    curves, failures = _curves(fits, cells), _failures(fits, cells)
    table = _table(fits, cells, columns)
    return Cells(
        table[~native].reset_index(drop=True) if native.any() else table,
        table[native].reset_index(drop=True),
        at_native,
        curves,
        failures,
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

    def ranks(self) -> NDArray[np.intp]:
        """Return each fit's place among them in order; equal ones share theirs."""
        keys = list(zip(*(self.columns[name] for name in _ORDER), strict=True))
        places = {key: place for place, key in enumerate(sorted(set(keys)))}
        return np.array([places[key] for key in keys], dtype=np.intp)


def _table(fits: _Fits, cells: CellColumns, names: list[str]) -> pd.DataFrame:
    """Return columns of the cells, of their fits and what follows from them; takes them away."""
    import pandas as pd

    columns = {name: as_array(values)[cells.fit] for name, values in fits.columns.items()}
    columns |= cells.columns
    columns |= _derived(columns, len(cells.fit))
    cells.columns.clear()
    unknown = np.full(len(cells.fit), np.nan)
    alike: dict[np.dtype[Any], list[str]] = {}
    for name in names:
        alike.setdefault(columns.setdefault(name, unknown).dtype, []).append(name)
    parts = []
    for kind, own in alike.items():
        # Columns of a kind lie in one array, which is what narrowing down takes its time for; each
        # is let go as it is copied. Texts stay the objects they are, each kept once.
        values = np.empty((len(own), len(cells.fit)), dtype=kind)
        for place, name in enumerate(own):
            values[place] = columns.pop(name)
        parts.append(pd.DataFrame(values.T, columns=own, dtype=kind, copy=False))
    return pd.concat(parts, axis=1)[names]


def _metric_names(cells: CellColumns, native: NDArray[np.bool_]) -> list[str]:
    """List the metrics' columns: the weights tier's in their order, then the others."""
    first = [*WEIGHT_METRICS, "excluded_horizons", "excluded_tensors"]
    first += [f"{name}_sample" for name in WEIGHT_METRICS]
    known = {*IDENTITY, *COMPUTE, *first}
    names = [name for name in ("machine", *cells.seen()) if name not in known]
    if "function" in cells.columns["tier"][~native]:
        names += [name for name in FUNCTION_METRICS if name not in names]
    return first + (names if len(cells.fit) else [])


def _curves(fits: _Fits, cells: CellColumns) -> dict[tuple[str, str, int], list[Curve]]:
    """Return curves for the charts, by method's label, data set and context."""
    found: dict[tuple[str, str, int], list[Curve]] = {}
    for row, curve, _ in cells.drawn:
        task = fits.of(cells.fit[row], ("label", "dataset", "context", "split", "track"))
        label, dataset, context, split, track = task.values()
        if len(curve) and split == WHOLE and track in OWN:
            found.setdefault((label, dataset, context), []).append(curve)
    return found


def _failures(fits: _Fits, cells: CellColumns) -> list[dict[str, Any]]:
    """Return what is known of each cell that failed."""
    return [fits.of(cells.fit[row], (*_OF_FIT, "label")) | stored for row, stored in cells.failed]


def _at_native(fits: _Fits, cells: CellColumns) -> list[dict[str, Any]]:
    """Read off curves what every cell errs at each native horizon that its task has."""
    asked: dict[tuple[Any, ...], dict[str, str]] = {}
    for row, horizons in cells.native:
        fit = cells.fit[row]
        asked.setdefault(tuple(fits.of(fit, PLACE).values()), {})[fits.columns["label"][fit]] = (
            horizons
        )
    found = []
    for row, curve, on_sample in cells.drawn if asked else ():
        fit, ok = cells.fit[row], cells.columns["status"][row] == "ok"
        place = fits.of(fit, PLACE)
        for peer, horizons in {} if on_sample else asked.get(tuple(place.values()), {}).items():
            there = [curve[h - 1] for h in _numbers(horizons) if h <= len(curve)] if ok else []
            moved = [error for error in there if not np.isnan(error)]
            error = float(np.mean(moved)) if moved else np.nan
            run = int(cells.columns["run"][row])
            about = {"peer": peer, "horizons": horizons, "run": run, "error": error}
            found.append(about | place | fits.of(fit, ["label"]))
    return found


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


def _numbers(ranges: str) -> list[int]:
    """Read what `weightcast.datasets.dataset.seed_ranges` wrote.

    Examples
    --------
    >>> _numbers("1-3,5")
    [1, 2, 3, 5]
    """
    ends = [[int(end) for end in part.split("-")] for part in ranges.split(",")]
    return [number for part in ends for number in range(part[0], part[-1] + 1)]
