"""Reading a result folder: tables of cells, fits, error curves, examples and loop runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weightcast.bench.engine.environment import read_environment
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.loop_settings import CONTROLS
from weightcast.bench.plan.method_facts import MethodFacts
from weightcast.bench.plan.sharing import Sharing
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.cells import read_cells
from weightcast.bench.results.csv_cells import csv_text
from weightcast.bench.results.mixed import packages_used
from weightcast.datasets import InputError
from weightcast.datasets.files.partial_file import whole_file

if TYPE_CHECKING:
    import pandas as pd


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
    methods : dict
        (method, parameters as JSON) → what it said of itself when it was run.
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
    methods: dict[tuple[str, str], MethodFacts] = field(default_factory=dict)

    def only(self, dataset: str, context: int) -> Results:
        """Return the same with the cells of one data set and context alone."""
        cells = self.cells
        here = (cells["dataset"] == dataset) & (cells["context"] == context)
        return replace(self, cells=cells[here])

    def packages_used(self) -> set[str] | None:
        """Name the packages that these results went through; None where that is not known."""
        facts = self.facts
        ran = {*self.cells["label"], *(_plain(row) for row in self.loops)} - set(CONTROLS)
        networks = bool(self.loops) or "function" in set(self.cells["tier"])
        return packages_used([facts.get(label) for label in ran], networks)

    @cached_property
    def facts(self) -> dict[str, MethodFacts]:
        """What each method said of itself, by its label."""
        return {method_label(*at): facts for at, facts in self.methods.items()}

    @property
    def references(self) -> set[str]:
        """Labels of what is there to be measured against, and no forecaster itself."""
        return {label for label, facts in self.facts.items() if facts.role == "reference"}

    @property
    def suite(self) -> str:
        """The suite's name; empty where there are no results."""
        if len(self.cells):
            return str(self.cells["suite"].iloc[0])
        return str(self.loops[0]["suite"]) if self.loops else ""


def load_results(folder: Path) -> Results:
    """Read a result folder.

    Raises
    ------
    InputError
        If the folder holds no store, or what it holds is damaged or not as Weightcast writes it.
    """
    with Store(folder, read_only=True) as store:
        read = read_cells(store)
        drawn, checked = store.examples(), store.gates()
        common = store.sharing()
        machines = store.machines()
        loops = store.loops()
        methods = store.methods()
    gates: dict[str, list[dict[str, Any]]] = {}
    for gate in checked:
        gates.setdefault(gate["dataset"], []).append(gate)
    return Results(
        folder=folder,
        cells=read.cells,
        native=read.native,
        at_native=read.at_native,
        curves={key: _stacked(folder, key, values) for key, values in read.curves.items()},
        examples=[
            {
                "dataset": row["dataset"],
                "context": row["context"],
                "label": method_label(row["method"], row["params"]) if row["method"] else "",
                "content": row["content"],
            }
            for row in drawn
        ],
        failures=read.failures,
        gates=gates,
        environment=read_environment(folder),
        machines=machines,
        suite_toml=_suite_text(folder / "suite.toml"),
        sharing={
            (row["dataset"], row["trained_on"], row["track"], row["split"]): row["traits"]
            for row in common
        },
        loops=loops,
        methods=methods,
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


def _stacked(
    folder: Path, key: tuple[str, str, int], curves: list[np.ndarray[Any, np.dtype[np.float64]]]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Stack the curves of a task's runs, which are of one length."""
    if len({len(curve) for curve in curves}) > 1:
        label, dataset, context = key
        raise InputError(
            f"{folder} holds curves of different lengths of {label} on {dataset}, context "
            f"{context}; take it from a copy, or run the suite into a new folder"
        )
    return np.asarray(curves)


def _plain(row: LoopRow) -> str:
    """Name a run's method without what it was used for."""
    return method_label(row["method"], row["params"])


def _suite_text(path: Path) -> str:
    """Return what the suite's file says; nothing where there is none."""
    if not path.exists():
        return ""
    load_suite(str(path))
    return path.read_text(encoding="utf-8")
