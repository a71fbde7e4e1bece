"""Columns of a store's cells, filled many rows at a time: arrays take a fifth of lists' memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.store.cell_chunk import CellChunk
from weightcast.bench.results.horizons import LABELS as HORIZON_LABELS

Curve = NDArray[np.float64]
Numbers = NDArray[Any]

#: What a cell itself has, as it is stored; with its own sight of what its fit cost.
OF_CELL = (
    "run", "tier", "horizon_set", "status", "reason", "coverage", "coordinates", "predict_seconds",
    "predict_cpu_seconds", "peak_memory_bytes", "evaluations", "network_seconds",
    "scoring_seconds", "cell_seconds", "fit_seconds", "fit_cpu_seconds", "fit_memory_bytes", "jobs",
)  # fmt: skip


class CellColumns:
    """The cells' columns, in the order of writing until `sort` is called.

    Attributes
    ----------
    columns : dict of str to ndarray
        Filled by `sort`: what is stored of a cell, and its metrics.
    fit : ndarray
        Filled by `sort`: each row's fit, as the caller counts them.
    native : list of (int, str)
        Rows at native horizons, with these.
    drawn : list of (int, ndarray, bool)
        Rows of the weights tier on the common horizons: its errors at them, and whether it ran on
        the coordinate sample only.
    failed : list of (int, dict)
        Rows that failed, as stored.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Numbers] = {}
        self.fit = np.zeros(0, dtype=np.intp)
        self.native: list[tuple[int, str]] = []
        self.drawn: list[tuple[int, Curve, bool]] = []
        self.failed: list[tuple[int, dict[str, Any]]] = []
        self._rows = 0
        self._fit: list[NDArray[np.intp]] = [self.fit]
        self._own: dict[str, list[Numbers]] = {name: [] for name in OF_CELL}
        self._metrics: dict[str, list[Numbers]] = {}
        #: Rows by what is measured there: on which horizons, and the metrics in their order.
        self._measured: dict[tuple[str, ...], list[NDArray[np.intp]]] = {}

    def add(self, chunk: CellChunk, fits: Sequence[int]) -> None:
        """Add cells, as stored and as parsed, with the fit of each."""
        columns, first, count = chunk.columns, self._rows, len(fits)
        self._fit.append(np.array(fits, dtype=np.intp))
        for name, column in self._own.items():
            column.append(as_array(columns[name]))
        alike: dict[tuple[Any, ...], list[int]] = {}
        kinds = zip(
            chunk.metrics, map(len, chunk.curves), columns["tier"], columns["horizon_set"],
            strict=True,
        )  # fmt: skip
        for row, (metrics, length, tier, horizons) in enumerate(kinds):
            alike.setdefault((horizons, tier, length, *metrics), []).append(row)
        filled: dict[str, Numbers] = {}
        for (horizons, tier, length, *names), rows in alike.items():
            values = zip(*(chunk.metrics[row].values() for row in rows), strict=True)
            found = dict(zip(names, map(as_array, values), strict=True))
            if tier == "weights" and horizons == "common":
                drawn = _floats([chunk.curves[row] for row in rows]).reshape(len(rows), length)
                on_sample = "rel_sum" not in found and "rel_sum_sample" in found
                found |= _at_single(drawn, on_sample)
                told = zip(rows, drawn, strict=True)
                self.drawn += [(first + row, curve, on_sample) for row, curve in told]
            own = self._measured.setdefault((horizons, *found), [])
            own.append(first + np.array(rows, dtype=np.intp))
            for name, part in found.items():
                _fill(filled, name, part, rows, count)
        self._put(filled, count)
        for row, horizons in enumerate(columns["horizon_set"]):
            if horizons == "native":
                self.native.append((first + row, str(chunk.metrics[row]["horizons"])))
            elif columns["status"][row] != "ok":
                stored = {name: columns[name][row] for name in (*OF_CELL, "traceback")}
                self.failed.append((first + row, stored))

    def _put(self, filled: dict[str, Numbers], count: int) -> None:
        """Lengthen every metric's column by a chunk; what the chunk has none of is empty."""
        for name in {**self._metrics, **filled}:
            missing = np.full(self._rows, np.nan)
            column = self._metrics.setdefault(name, [missing] if self._rows else [])
            column.append(filled.get(name, np.full(count, np.nan)))
        self._rows += count

    def sort(self, ranks: NDArray[np.intp]) -> None:
        """Sort all rows by their fits' ranks, their run, and the weights tier before function.

        Parameters
        ----------
        ranks : ndarray, shape (fits,)
            As many fits alike in rank as there are go by run.
        """
        fit, tiers = np.concatenate(self._fit), _column(self._own["tier"])
        keys = (tiers != "weights", _column(self._own["run"]), ranks[fit])
        order = np.lexsort(keys) if self._rows else fit
        self.fit = fit[order]
        for waiting in (self._own, self._metrics):
            for name in list(waiting):  # one by one: sorted, each is in memory twice
                self.columns[name] = _column(waiting.pop(name))[order]
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self.native = _moved(self.native, place)
        self.drawn = _moved(self.drawn, place)
        self.failed = _moved(self.failed, place)
        first = {key: min(place[rows].min() for rows in own) for key, own in self._measured.items()}
        self._measured = {key: self._measured[key] for key in sorted(first, key=first.__getitem__)}

    def seen(self) -> list[str]:
        """Return the metrics in the order of their first row, those on common horizons first."""
        names = {
            name: None
            for wanted in ("common", "native")
            for horizons, *own in self._measured
            if horizons == wanted
            for name in own
        }
        return list(names)


def _moved(kept: Iterable[tuple[int, *tuple[Any, ...]]], place: NDArray[np.intp]) -> list[Any]:
    """Name what is kept of rows by their place after sorting, in that order."""
    moved = [(int(place[row]), *rest) for row, *rest in kept]
    return sorted(moved, key=lambda one: one[0])


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


def as_array(values: Sequence[Any]) -> Numbers:
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
