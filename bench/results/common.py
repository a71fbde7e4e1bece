"""The cells that all methods have been run on: nothing else compares them.

A folder may be half run, or a method may have been added for some of the data sets. What one method
lacks is then left out for all, and said; who has been run on so little that nothing would be left
stands below the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from weightcast.bench.results.inference.charging import Unranked
from weightcast.datasets.admission.gates import FEWEST_RUNS

if TYPE_CHECKING:
    import pandas as pd

_SET = ["dataset", "trained_on"]


@dataclass
class Common:
    """Cells that methods are compared on.

    Attributes
    ----------
    cells : DataFrame
        Of each data set the runs on which every method has been run at every context.
    notes : list of str
        What is missing, in a line a data set or method.
    unranked : list of Unranked
        Methods that have been run on too few cells to be compared.
    """

    cells: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    unranked: list[Unranked] = field(default_factory=list)


def place_name(dataset: str, trained_on: str) -> str:
    """Name what is tested on, and what was trained on where that is another set."""
    return dataset if dataset == trained_on else f"{trained_on} → {dataset}"


def common_cells(cells: pd.DataFrame, baseline: str) -> Common:
    """Narrow cells down to those that all methods have been run on, failed ones among them.

    Parameters
    ----------
    cells : DataFrame
        Of one tier, track and split.
    baseline : str
        It is compared with whatever happens.
    """
    wanted = len(cells[[*_SET, "context", "run"]].drop_duplicates())
    found = Common(cells)
    while True:
        whole = _whole(found.cells)
        methods = set(found.cells["label"])
        enough = whole.groupby(_SET)["run"].nunique().ge(FEWEST_RUNS).any() if len(whole) else False
        if enough or methods == {baseline}:
            break
        counts = found.cells["label"].value_counts().drop(baseline)
        if counts.min() == found.cells.groupby("label").size()[baseline]:
            break  # everybody has as much as the baseline: there are few runs, none is missing
        least = sorted(counts.index[counts == counts.min()])[0]
        own = found.cells[found.cells["label"] == least]
        has = len(own[[*_SET, "context", "run"]].drop_duplicates())
        failed = int((own["status"] != "ok").sum())
        found.unranked.append(Unranked(least, failed, has, max(1, wanted - has)))
        found.cells = found.cells[found.cells["label"] != least]
    found.notes += _missing(found.cells, whole)
    if len(whole):
        found.cells = whole
    return found


def _whole(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of runs that every method has at every context of the data set."""
    methods = cells["label"].nunique()
    contexts = cells.groupby(_SET)["context"].transform("nunique")
    # A method that draws random numbers has several fits, and a cell of each.
    fits = cells.groupby([*_SET, "label"])["repeat"].nunique().groupby(_SET).sum()
    wanted = _sets_of(cells).map(fits).to_numpy() * contexts
    there = cells.groupby([*_SET, "run"])["label"].transform("size")
    whole = cells.groupby(_SET)["label"].transform("nunique") == methods
    return cells[(there == wanted) & whole]


def _sets_of(cells: pd.DataFrame) -> pd.MultiIndex:
    """Return each row's data set, tested and trained on."""
    import pandas as pd

    return pd.MultiIndex.from_frame(cells[_SET])


def _missing(cells: pd.DataFrame, whole: pd.DataFrame) -> list[str]:
    """Say which runs are left out, and for want of whose cells."""
    notes = []
    methods = sorted(set(cells["label"]))
    runs_of, kept = (one.groupby(_SET)["run"].nunique() for one in (cells, whole))
    left_out = runs_of - kept.reindex(runs_of.index, fill_value=0)
    for (dataset, trained_on), out in left_out[left_out > 0].items():
        part = cells[(cells["dataset"] == dataset) & (cells["trained_on"] == trained_on)]
        runs = runs_of[dataset, trained_on]
        once = runs * part["context"].nunique()
        counts, fits = part["label"].value_counts(), part.groupby("label")["repeat"].nunique()
        full = {label: once * int(fits.get(label, 1)) for label in methods}
        lacking = [
            f"{label} ({counts.get(label, 0)} of {full[label]} cells)"
            for label in methods
            if counts.get(label, 0) < full[label]
        ]
        notes.append(
            f"{place_name(str(dataset), str(trained_on))}: {out} of {runs} runs are left out, for "
            f"they have not been run with {', '.join(lacking)}; all methods are ranked on common "
            "cells"
        )
    return notes
