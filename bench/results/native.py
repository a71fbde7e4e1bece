"""Methods at the horizons that they were made for; no ranking, for each has horizons of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.plan.place import WHOLE
from weightcast.bench.results.cells import PLACE
from weightcast.bench.results.leaderboard import admitted
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError

if TYPE_CHECKING:
    import pandas as pd

#: What methods are compared with at their native horizons.
BESIDE_NATIVE = ("last-value", "damped-line", "lfd2-ols")


@dataclass(frozen=True)
class NativeStanding:
    """A method at the horizons that it was made for, and others at those same horizons.

    Attributes
    ----------
    method : str
        The label of the method whose native horizons they are.
    task : str
    horizons : str
        In snapshots after the origin, e.g. ``"5"`` or ``"1-40"``.
    runs : int
        Test runs that it has a result on; all errors are medians over these.
    failures : int
    error : float
        The error over the distance moved, averaged over the horizons.
    others : dict of str to float
        The same of the methods compared with; NaN where one was not run or has no result.
    """

    method: str
    task: str
    horizons: str
    runs: int
    failures: int
    error: float
    others: dict[str, float]


def native_standings(
    results: Results, *, track: str = "main", split: str = WHOLE
) -> tuple[list[NativeStanding], list[str]]:
    """Compare methods at their native horizons; no ranking, for each has horizons of its own.

    Returns
    -------
    standings : list of NativeStanding
        By task, the best first.
    notes : list of str

    Raises
    ------
    InputError
        If nothing here has a native horizon, or the track or the split is unknown.
    """
    cells, notes = admitted(results, "weights", track, split)
    places = [name for name in PLACE if name not in ("track", "split")]
    kept = cells[["label", *places, "run"]].drop_duplicates()
    table = results.at_native
    table = table[(table["track"] == track) & (table["split"] == split)]
    table = table.merge(kept, on=list(kept.columns))
    table = table[table["peer"].isin(kept["label"])]
    if table.empty:
        raise InputError(
            "no method here has a native horizon among its tasks' horizons; "
            "wnn, nino-mlp and introspection have some at most contexts"
        )
    standings = []
    for (dataset, trained_on, context, peer, horizons), part in table.groupby(
        [*places, "peer", "horizons"], sort=True
    ):
        own = part[part["label"] == peer]
        runs = set(own["run"][own["error"].notna()])
        there = part[part["run"].isin(runs)].groupby("label")["error"].median()
        name = dataset if dataset == trained_on else f"{trained_on} → {dataset}"
        standings.append(
            NativeStanding(
                method=str(peer),
                task=f"{name}, context {context}",
                horizons=str(horizons),
                runs=len(runs),
                failures=len(own) - len(runs),
                error=float(there.get(peer, np.nan)),
                others={label: float(there.get(label, np.nan)) for label in BESIDE_NATIVE},
            )
        )
    return sorted(standings, key=lambda s: (s.task, np.nan_to_num(s.error, nan=np.inf))), notes


def native_table(standings: list[NativeStanding]) -> pd.DataFrame:
    """Return the comparison at native horizons as the table that ``--csv`` writes."""
    import pandas as pd

    names = ("method", "task", "horizons", "runs", "failures", "error")
    return pd.DataFrame([{name: getattr(s, name) for name in names} | s.others for s in standings])
