"""Leaderboards of a result folder, or of any CSV with the columns ``method,task,error``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.plan.sharing import sharing_line
from weightcast.bench.results.ranking import (
    Ranking,
    SetErrors,
    failure_notes,
    rank_runs,
    rank_tasks,
)
from weightcast.bench.results.tables import PLACE, Results
from weightcast.bench.results.task_csv import read_task_errors
from weightcast.bench.scoring.forecasting import needs_truth
from weightcast.datasets import InputError
from weightcast.datasets.errors import unknown
from weightcast.methods import all_methods

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "last-value"
DEFAULT_METRIC = {"weights": "rel_sum", "function": "train_loss_last"}
#: What methods are compared with at their native horizons.
BESIDE_NATIVE = ("last-value", "damped-line", "lfd2-ols")

# What a standing has from the comparison with all the others, blank.
_ALONE: dict[str, Any] = {"win_rate": Estimate(), "mean_rank": np.nan, "ratio": Estimate()}

# Metrics that are positive and better when smaller, so that ratios to a baseline mean something.
_RATIO_METRICS = ("rel_", "mae", "rmse", "train_loss_", "test_loss_")


@dataclass(frozen=True)
class Leaderboard:
    """A ranking and what it ranks.

    Attributes
    ----------
    ranking : Ranking
    tier, metric : str
    notes : list of str
        What a reader must know: a coordinate sample, methods left out, data sets not ranked; in
        tracks other than ``main``, what the runs of each task share.
    medians : DataFrame
        Median error a method and task, methods in the ranking's order.
    """

    ranking: Ranking
    tier: str
    metric: str
    notes: list[str]
    medians: pd.DataFrame


def rank_results(
    results: Results,
    *,
    tier: str = "weights",
    metric: str | None = None,
    baseline: str = BASELINE,
    only: list[str] | None = None,
    track: str = "main",
    split: str = WHOLE,
) -> Leaderboard:
    """Rank a result folder's methods.

    Parameters
    ----------
    results : Results
    tier : str
    metric : str, optional
        By default the tier's headline. In the weights tier that is `rel_sum`; with a method among
        them that ran on the coordinate sample only, it is `rel_sum_sample`, for all of them.
    baseline : str
    only : list of str, optional
        Labels of the methods to rank.
    track : str
        ``"main"`` ranks on the data sets that pass their admission gates. The others are ranked
        apart from it; there a gate that failed is said and no more, for a fine-tune hardly moves.
    split : str
        ``"seeds"`` for whole runs, or a window's name.

    Raises
    ------
    InputError
        If the tier, the metric, the baseline, the track or the split is unknown.
    """
    cells, notes = _admitted(results, tier, track, split)
    if only is not None:
        cells = cells[cells["label"].isin([*only, baseline])]
    ok = cells[cells["status"] == "ok"]
    sampled = sorted(set(ok["label"][ok["rel_sum"].isna() & ok["rel_sum_sample"].notna()]))
    chosen = metric or DEFAULT_METRIC[tier]
    if tier == "weights" and metric is None and sampled:
        chosen = "rel_sum_sample"
        notes.append(
            f"{', '.join(sampled)} ran on a fixed random sample of coordinates, so all methods are "
            "ranked on that sample; the metric rel_sum ranks the others on every coordinate"
        )
    usable = [
        name
        for name in cells.columns
        if name.startswith(_RATIO_METRICS)
        and not name.endswith("_origin")
        and cells[name].notna().any()
    ]
    if chosen not in usable:
        raise unknown(f"metric of the {tier} tier", chosen, usable)
    if tier == "weights" and not chosen.endswith("_sample") and sampled:
        cells = cells[~cells["label"].isin(sampled)]
        notes.append(f"{', '.join(sampled)}: no result on every coordinate, left out")
    methods = sorted(set(cells["label"]))
    if baseline not in methods:
        raise unknown("baseline", baseline, methods)
    sets = []
    for (dataset, trained_on), part in cells.groupby(["dataset", "trained_on"], sort=True):
        name = dataset if dataset == trained_on else f"{trained_on} → {dataset}"
        errors, unfinished = _set_errors(name, part, chosen, methods, baseline)
        sets.append(errors)
        notes += unfinished
        if track != "main":
            shared = results.sharing.get((str(dataset), str(trained_on), track, split), {})
            notes.append(f"{name}: {sharing_line(shared)}")
    ranking = _rank(methods, sets, baseline)
    notes += [*ranking.left_out, *failure_notes(ranking)]
    order = [one.method for one in ranking.standings] + [one.method for one in ranking.unranked]
    medians = (
        cells[cells["status"] == "ok"]
        .groupby(["label", "dataset", "context"])[chosen]
        .median()
        .unstack(["dataset", "context"])
        .reindex(order)
    )
    return Leaderboard(ranking, tier, chosen, notes, medians)


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
    cells, notes = _admitted(results, "weights", track, split)
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


def _rank(methods: list[str], sets: list[SetErrors], baseline: str) -> Ranking:
    """Rank methods against each other; those that are told the truth stand last, with a skill only.

    They are no competitors: to lose to them, or to win over them, says nothing of a forecaster.
    """
    told = [label for label in methods if _is_told(label)]
    competing = [label for label in methods if label not in told]
    if baseline not in competing:
        raise unknown("baseline", baseline, competing)
    ranking = rank_runs(competing, _only(sets, methods, competing), baseline)
    for label in told:
        pair = [baseline, label]
        found = rank_runs(pair, _only(sets, methods, pair), baseline)
        ranking.standings.extend(
            replace(standing, **_ALONE) for standing in found.standings if standing.method == label
        )
        ranking.unranked.extend(found.unranked)
    return ranking


def _is_told(label: str) -> bool:
    cls = all_methods().get(label.partition("(")[0])
    return cls is not None and needs_truth(cls)


def _only(sets: list[SetErrors], methods: list[str], kept: list[str]) -> list[SetErrors]:
    """Narrow errors (methods, contexts, runs) down to some of the methods."""
    rows = [methods.index(label) for label in kept]
    return [
        replace(data, errors=data.errors[rows], ran=None if data.ran is None else data.ran[rows])
        for data in sets
    ]


def _admitted(
    results: Results, tier: str, track: str, split: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells that a ranking is about, and what its data sets' gates say against it."""
    cells = results.cells
    for column, asked in (("track", track), ("split", split), ("tier", tier)):
        known = sorted(set(cells[column]))
        if (column, asked) == ("track", "main") and known and asked not in known:
            raise InputError(f"nothing here is of the track main; there is {', '.join(known)}")
        if asked not in known:
            raise unknown(column, asked, known)
        cells = cells[cells[column] == asked]
    notes = []
    for dataset in sorted(set(cells["dataset"])):
        if failed := [g for g in results.gates.get(dataset, []) if not g["passed"]]:
            fate = "left out" if track == "main" else "ranked all the same"
            notes += [f"{dataset} is {fate}: {_gate_line(gate)}" for gate in failed]
            if track == "main":
                cells = cells[cells["dataset"] != dataset]
    if cells.empty:
        raise InputError(f"nothing is left to rank: {'; '.join(notes)}")
    return cells, notes


def _gate_line(gate: dict[str, Any]) -> str:
    """Say in one line why a gate failed."""
    return (
        f"its gate {gate['name']} failed with {gate['value']:.3g} ({gate['meaning']} "
        f"{gate['limit']:g})"
    )


def _set_errors(
    dataset: str, part: pd.DataFrame, metric: str, methods: list[str], baseline: str
) -> tuple[SetErrors, list[str]]:
    """Lay one data set's cells out as an array, and say what has not been run yet.

    Runs that the baseline has not been run on are left out: there is nothing to compare with.
    """
    contexts = sorted(set(part["context"].astype(int)))
    runs = sorted(set(part["run"].astype(int)))
    place = (
        _places(part["label"], methods),
        _places(part["context"], contexts),
        _places(part["run"], runs),
    )
    shape = (len(methods), len(contexts), len(runs))
    errors, ran = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    errors[place] = part[metric].where(part["status"] == "ok").to_numpy(float)
    ran[place] = True
    compared = ran[methods.index(baseline)].all(axis=0)
    notes = []
    if not compared.all():
        notes.append(
            f"{dataset}: {int((~compared).sum())} of {len(runs)} runs lack {baseline} and are left "
            "out"
        )
    errors, ran = errors[:, :, compared], ran[:, :, compared]
    for method, cells in zip(methods, ran, strict=True):
        if not cells.all():
            notes.append(
                f"{dataset}: {int((~cells).sum())} of {cells.size} cells of {method} have not been "
                f"run; {baseline}'s errors stand in for them"
            )
    kept = tuple(run for run, keep in zip(runs, compared, strict=True) if keep)
    return SetErrors(dataset, tuple(contexts), kept, errors, ran), notes


def _places(column: pd.Series, values: list[Any]) -> NDArray[np.int64]:
    """Return each entry's place among the values."""
    places = {value: place for place, value in enumerate(values)}
    found: NDArray[np.int64] = column.map(places).to_numpy(dtype=np.int64)
    return found


def rank_csv(path: Path, baseline: str | None = None) -> Ranking:
    """Rank the methods of a CSV file with the columns ``method,task,error``.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, or has a line that does not fit.
    """
    found = read_task_errors(path)
    if baseline is None:
        baseline = BASELINE if BASELINE in found.methods else found.methods[0]
    return rank_tasks(found.methods, found.errors, found.tasks, baseline)


def ranking_table(ranking: Ranking) -> pd.DataFrame:
    """Return the ranking as the table that ``--csv`` writes.

    Methods that are not ranked come last, with nothing but their failures.
    """
    import pandas as pd

    rows = [
        {
            "method": s.method,
            **s.skill.columns("skill"),
            **s.win_rate.columns("win_rate"),
            "mean_rank": s.mean_rank,
            "failures": s.failures,
        }
        for s in ranking.standings
    ]
    below = [{"method": u.method, "failures": u.failures} for u in ranking.unranked]
    return pd.DataFrame([*rows, *below])
