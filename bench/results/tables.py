"""Reading a result folder: tables of cells, fits, error curves, examples and loop runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weightcast.bench.engine.environment import read_environment
from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.store.stored import CellRecord
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.plan.sharing import Sharing
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.csv_cells import csv_text
from weightcast.bench.results.horizons import LABELS as HORIZON_LABELS
from weightcast.bench.scoring.metrics import WEIGHT_METRICS
from weightcast.datasets import InputError
from weightcast.datasets.files.partial_file import whole_file

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


@dataclass
class Results:
    """Everything that a result folder holds.

    Attributes
    ----------
    folder : Path
    cells : DataFrame
        A row a cell and tier, on the common horizons: `IDENTITY`, the metrics, `COMPUTE`, and
        ``label``, the method's name with what parameters it was asked to have.
    native : DataFrame
        The same for rows at a method's native horizons; nothing ranks them with the others.
    at_native : DataFrame
        What every method errs at every such method's native horizons: `AT_NATIVE`. ``error`` is the
        mean over those horizons of the error over the distance moved, from the stored curves; NaN
        for failed cells. Methods on the coordinate sample have none.
    curves : dict
        (label, dataset, context) → error over horizons, shape (runs, m), NaN where undefined; of
        whole runs, without the shift tracks.
    examples : list of dict
        What is drawn of one run: dataset, context, label (``""`` for the run itself), content.
    failures : list of dict
        Cells without a result, with reason and traceback.
    gates : dict of str to list of dict
        Each data set's admission gates: name, passed, value, limit, meaning.
    environment : dict
        ``environment.json``: the last command that ran something, and its machine.
    machines : list of dict
        Every machine, with its versions, that something here was made on, and how many ``cells``.
    suite_toml : str
    sharing : dict
        (dataset, trained_on, track, split) → what training and test runs share, outside ``main``.
    loops : list of dict
        The loop tier's runs; see `weightcast.bench.plan.loop_row.loop_row`.
    """

    folder: Path
    cells: pd.DataFrame
    native: pd.DataFrame
    at_native: pd.DataFrame
    curves: dict[tuple[str, str, int], np.ndarray[Any, np.dtype[np.float64]]]
    examples: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    gates: dict[str, list[dict[str, Any]]]
    environment: dict[str, Any]
    machines: list[dict[str, Any]]
    suite_toml: str
    sharing: dict[tuple[str, str, str, str], Sharing] = field(default_factory=dict)
    loops: list[LoopRow] = field(default_factory=list)

    def only(self, dataset: str, context: int) -> Results:
        """Return the same with the cells of one data set and context alone."""
        cells = self.cells
        here = (cells["dataset"] == dataset) & (cells["context"] == context)
        return replace(self, cells=cells[here])

    @property
    def suite(self) -> str:
        """The suite's name; empty where there are no results."""
        if len(self.cells):
            return str(self.cells["suite"].iloc[0])
        return str(self.loops[0]["suite"]) if self.loops else ""


_CELLS = """
SELECT fits.*, cells.run, cells.tier, cells.horizon_set, cells.status AS cell_status,
    cells.reason AS cell_reason, cells.traceback AS cell_traceback, coverage, coordinates, metrics,
    curve, predict_seconds, predict_cpu_seconds, peak_memory_bytes, evaluations, network_seconds,
    scoring_seconds, cell_seconds, cells.fit_seconds, cells.fit_cpu_seconds,
    cells.fit_memory_bytes, max(cells.jobs, cells.fit_jobs) AS most_jobs
FROM cells JOIN fits ON cells.fit = fits.key
ORDER BY dataset, context, method, params, rotation, repeat, run, tier DESC
"""


def load_results(folder: Path) -> Results:
    """Read a result folder.

    Raises
    ------
    InputError
        If the folder holds no store, or what it holds is damaged or not as Weightcast writes it.
    """
    import pandas as pd

    with Store(folder, read_only=True) as store:
        rows = store.rows(_CELLS)
        store.check_rows("cells", CellRecord, rows)
        drawn, checked = store.examples(), store.gates()
        common = store.sharing()
        machines = store.machines()
        loops = store.loops()
    table, native, failures = [], [], []
    peers = _native_horizons(rows)
    at_native: list[dict[str, Any]] = []
    curves: dict[tuple[str, str, int], list[list[float]]] = {}
    for stored in rows:
        trace, curve = stored.pop("cell_traceback"), json.loads(stored.pop("curve"))
        row = stored | json.loads(stored.pop("metrics"))
        row["label"] = method_label(row["method"], row["params"])
        row["status"], row["reason"] = row.pop("cell_status"), row.pop("cell_reason")
        row["jobs"] = row.pop("most_jobs")
        row |= _derived(row)
        if row["tier"] == "weights" and row["horizon_set"] == "common":
            row |= _at_single(curve, "rel_sum" not in row and "rel_sum_sample" in row)
        if row["horizon_set"] == "native":
            native.append(row)
            continue
        at_native += _at_native(row, curve, peers)
        if row["status"] != "ok":
            failures.append({**row, "traceback": trace})
        if row["tier"] == "weights" and curve and row["split"] == WHOLE and row["track"] in OWN:
            key = (row["label"], row["dataset"], row["context"])
            curves.setdefault(key, []).append([np.nan if v is None else v for v in curve])
        table.append(row)
    columns = [*IDENTITY, *_metric_names(table + native), *COMPUTE, "trained_on", "label"]
    gates: dict[str, list[dict[str, Any]]] = {}
    for gate in checked:
        gates.setdefault(gate["dataset"], []).append(gate)
    return Results(
        folder=folder,
        cells=pd.DataFrame(table, columns=columns),
        native=pd.DataFrame(native, columns=columns),
        at_native=pd.DataFrame(at_native, columns=list(AT_NATIVE)),
        curves={key: _stacked(folder, key, values) for key, values in curves.items()},
        examples=[
            {
                "dataset": row["dataset"],
                "context": row["context"],
                "label": method_label(row["method"], row["params"]) if row["method"] else "",
                "content": row["content"],
            }
            for row in drawn
        ],
        failures=failures,
        gates=gates,
        environment=read_environment(folder),
        machines=machines,
        suite_toml=_suite_text(folder / "suite.toml"),
        sharing={
            (row["dataset"], row["trained_on"], row["track"], row["split"]): row["traits"]
            for row in common
        },
        loops=loops,
    )


def export_cells(results: Results, path: Path) -> int:
    """Write one row a cell and tier to a ``.csv`` or ``.parquet`` file; return their number.

    Rows at native horizons follow the others; the column ``horizon_set`` tells them apart. The loop
    tier's runs come last, and so do the columns that only they have.

    Raises
    ------
    InputError
        If the file's ending is another, or it cannot be written.
    """
    import pandas as pd

    from weightcast.bench.loop.export import loop_table

    parts = [part for part in (results.native, loop_table(results.loops)) if len(part)]
    table = results.cells
    if parts:
        # As objects, for columns that are empty in one part have no type of their own to keep.
        parts = [part.astype(object) for part in (results.cells, *parts)]
        table = pd.concat(parts, ignore_index=True).infer_objects()
    table = table.drop(columns="label")
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} must end in .csv or .parquet")
    with whole_file(path) as partial:
        if path.suffix == ".csv":
            partial.write_text(csv_text(table), encoding="utf-8", newline="")
        else:
            table.to_parquet(partial, index=False)
    return len(table)


def _derived(row: dict[str, Any]) -> dict[str, Any]:
    """Compute what follows from stored numbers."""
    trials = json.loads(row["trials"])
    derived: dict[str, Any] = {
        "tuning_configurations": len(trials),
        # Part of fit_seconds. Folders from before trials were timed have none.
        "tuning_seconds": sum(trial.get("seconds", 0.0) for trial in trials),
    }
    if row["cell_seconds"] is not None and row["predict_seconds"] is not None:
        # What the harness adds to what the method and the real network take.
        theirs = row["predict_seconds"] + (row["network_seconds"] or 0.0)
        derived["overhead_seconds"] = row["cell_seconds"] - theirs
    forecast = (row["coverage"] or 0) * (row["coordinates"] or 0)
    if row["predict_seconds"] is not None and forecast:
        derived["predict_seconds_per_million"] = 1e6 * row["predict_seconds"] / forecast
    if {"steps_gained_last", "seconds_per_step"} <= row.keys():
        # After how many uses the method has paid for its fit and the training runs that it needed;
        # infinite where a use saves no time at all.
        saved = row["steps_gained_last"] * row["seconds_per_step"] - row["predict_seconds"]
        spent = row["fit_seconds"] + row["training_runs_seconds"]
        derived["break_even_uses"] = spent / saved if saved > 0 else float("inf")
    return derived


def _at_single(curve: list[float | None], on_sample: bool) -> dict[str, float | None]:
    """Read errors at single horizons off a curve; NaN where the run had hardly moved."""
    if not curve:
        return {}
    found: dict[str, float | None] = {}
    for label in HORIZON_LABELS:
        horizon = len(curve) if label == "last" else int(label[1:])
        if horizon <= len(curve):
            found[f"rel_{label}" + "_sample" * on_sample] = curve[horizon - 1]
    return found


def _stacked(
    folder: Path, key: tuple[str, str, int], curves: list[list[float]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Stack the curves of a task's runs, which are of one length."""
    if len({len(curve) for curve in curves}) > 1:
        label, dataset, context = key
        raise InputError(
            f"{folder} holds curves of different lengths of {label} on {dataset}, context "
            f"{context}; take it from a copy, or run the suite into a new folder"
        )
    return np.asarray(curves)


def _native_horizons(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, str]]:
    """Return each task's methods with native horizons there, and those horizons."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        if row["horizon_set"] == "native":
            here = found.setdefault(tuple(row[name] for name in PLACE), {})
            label = method_label(row["method"], row["params"])
            here[label] = json.loads(row["metrics"])["horizons"]
    return found


def _at_native(
    row: dict[str, Any],
    curve: list[float | None],
    peers: dict[tuple[Any, ...], dict[str, str]],
) -> list[dict[str, Any]]:
    """Read off a cell's curve what it errs at each native horizon that its task has."""
    place = tuple(row[name] for name in PLACE)
    on_sample = "rel_sum" not in row and "rel_sum_sample" in row
    if row["tier"] != "weights" or on_sample:
        return []
    identity = {name: row[name] for name in ("label", *PLACE, "run")}
    found = []
    for peer, horizons in peers.get(place, {}).items():
        there = curve[:0]
        if row["status"] == "ok":
            there = [curve[h - 1] for h in _numbers(horizons) if h <= len(curve)]
        moved = [error for error in there if error is not None]
        error = float(np.mean(moved)) if moved else np.nan
        found.append(identity | {"peer": peer, "horizons": horizons, "error": error})
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


def _metric_names(table: list[dict[str, Any]]) -> list[str]:
    """List the metrics' columns: the weights tier's in their order, then the others."""
    first = [*WEIGHT_METRICS, "excluded_horizons", "excluded_tensors"]
    first += [f"{name}_sample" for name in WEIGHT_METRICS]
    known = {*IDENTITY, *COMPUTE, "label", "key", "trials", "diagnostics", "traceback"}
    known |= {"trained_on", *first}
    others: dict[str, None] = {}
    for row in table:
        others |= {name: None for name in row if name not in known}
    if any(row["tier"] == "function" for row in table):
        others |= dict.fromkeys(FUNCTION_METRICS)
    return first + list(others)


def _suite_text(path: Path) -> str:
    """Return what the suite's file says; nothing where there is none."""
    if not path.exists():
        return ""
    load_suite(str(path))
    return path.read_text(encoding="utf-8")
