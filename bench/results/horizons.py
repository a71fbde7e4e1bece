"""Horizons at which an error is told beside the headline, and how they are spoken of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

#: In snapshots after the origin, as column names end; ``last`` is the task's last.
LABELS = ("h5", "h10", "h20", "last")
#: Metrics that are told at single horizons: name → the beginning of those columns' names.
AT_HORIZONS = {
    "rel_sum": "rel",
    "rel_sum_sample": "rel",
    "train_loss": "train_loss",
    "test_loss": "test_loss",
    "train_loss_length": "train_loss_length",
    "test_loss_length": "test_loss_length",
}
#: Those of them that are themselves the geometric mean over the horizons.
OVER_HORIZONS = ("train_loss", "test_loss", "train_loss_length", "test_loss_length")
_AT_LAST = ("rel_final", "rel_tensor_mean")
# More data sets than these are counted.
_MOST_NAMED = 4


def horizon_labels(cells: pd.DataFrame, metric: str) -> list[str]:
    """Return the horizons at which a metric is told in all tasks, each once.

    Where the last horizon is one of the others in every cell, it is not told twice.
    """
    if metric not in AT_HORIZONS:
        return []
    ok = cells[cells["status"] == "ok"]
    columns = {label: f"{AT_HORIZONS[metric]}_{label}" for label in LABELS}
    tasks = ok.groupby(["dataset", "context"])
    found = [
        label
        for label, name in columns.items()
        if name in ok.columns and bool(tasks[name].apply(lambda part: part.notna().any()).all())
    ]
    if "last" in found and len(found) > 1:
        # The same forecast at both makes two horizons alike, but the run itself goes on.
        truth = f"true_{metric.removesuffix('_length')}"
        pairs = [
            [columns[label] for label in found[-2:]],
            [f"{truth}_{label}" for label in found[-2:]],
        ]
        if all(_are_alike(ok, pair) for pair in pairs if set(pair) <= set(ok.columns)):
            found.remove("last")
    return found


def _are_alike(cells: pd.DataFrame, pair: list[str]) -> bool:
    one, other = cells[pair].to_numpy(float).T
    return np.array_equal(one, other, equal_nan=True)


def columns_of(metric: str, labels: Sequence[str]) -> list[str]:
    """Return the columns that make a metric: one, or one a horizon."""
    if metric in OVER_HORIZONS:
        return [f"{metric}_{label}" for label in labels]
    return [metric]


def horizon_names(metric: str, labels: Sequence[str]) -> list[str]:
    """Name the horizon of each column that makes a metric; ``all`` is over all of them.

    Examples
    --------
    >>> horizon_names("train_loss", ["h5", "last"]), horizon_names("rel_sum", ["h5"])
    (['5', 'last'], ['all'])
    >>> horizon_names("train_loss_h5", []), horizon_names("rel_final", [])
    (['5'], ['last'])
    """
    if metric in OVER_HORIZONS:
        return [spoken(label) for label in labels]
    at = next((label for label in LABELS if metric.endswith(f"_{label}")), None)
    last = metric.removesuffix("_sample") in _AT_LAST
    return ["last" if last else "all" if at is None else spoken(at)]


def spoken_metric(metric: str, labels: Sequence[str]) -> str:
    """Say what a metric is and over which horizons.

    Examples
    --------
    >>> spoken_metric("train_loss", ["h5", "h10", "last"])
    'train_loss (geometric mean over the horizons 5, 10 and last)'
    >>> spoken_metric("rel_sum", [])
    'rel_sum (over all horizons)'
    >>> spoken_metric("train_loss_h5", [])
    'train_loss_h5 (at horizon 5)'
    """
    if metric in OVER_HORIZONS:
        return f"{metric} (geometric mean over the horizons {listed([*map(spoken, labels)])})"
    at = next((label for label in LABELS if metric.endswith(f"_{label}")), None)
    if at is not None:
        return f"{metric} (at {'the last horizon' if at == 'last' else 'horizon ' + spoken(at)})"
    last = metric.removesuffix("_sample") in _AT_LAST
    return f"{metric} ({'at the last horizon' if last else 'over all horizons'})"


def spoken(label: str) -> str:
    """Return ``5`` for ``h5``, and ``last`` as it is."""
    return label.removeprefix("h")


def listed(names: Sequence[str]) -> str:
    """List a few names, or count many.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"]), listed(list("abcdef"))
    ('a', 'a, b and c', '6 data sets')
    """
    if len(names) > _MOST_NAMED:
        return f"{len(names)} data sets"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))
