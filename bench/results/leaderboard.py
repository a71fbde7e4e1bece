"""Leaderboards of a result folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.bench.plan.place import WHOLE
from weightcast.bench.plan.sharing import sharing_line
from weightcast.bench.results.absent import absent_tiers
from weightcast.bench.results.at_length import AtLength, at_length, length_columns, measured
from weightcast.bench.results.audit import audit_notes
from weightcast.bench.results.common import common_cells, place_name
from weightcast.bench.results.headline import BASELINE, DEFAULT_METRIC
from weightcast.bench.results.horizons import (
    AT_HORIZONS,
    OVER_HORIZONS,
    columns_of,
    horizon_labels,
    horizon_names,
    listed,
    spoken_metric,
)
from weightcast.bench.results.inference.errors import RunErrors, SetErrors
from weightcast.bench.results.inference.pairwise import Pairwise, pairwise
from weightcast.bench.results.inference.ranking import (
    Ranking,
    failure_notes,
    horizon_skills,
    rank_runs,
    run_errors,
)
from weightcast.bench.results.tables import Results
from weightcast.bench.scoring.forecasting import needs_truth
from weightcast.datasets import InputError
from weightcast.datasets.errors import unknown
from weightcast.methods import all_methods

if TYPE_CHECKING:
    import pandas as pd


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
        What a reader must know: a coordinate sample, methods left out, cells that are missing, data
        sets not ranked; in tracks other than ``main``, what the runs of each task share.
    medians : DataFrame
        Median error a method and task, methods in the ranking's order; over the horizons the
        geometric mean of their medians.
    datasets : list of str
        The ranked ones.
    horizons : list of str
        Those of ``h5``, ``h10``, ``h20`` and ``last`` at which the metric is told; empty for a
        metric that is not.
    at_horizons : dict of str to list of Estimate
        Method → its skill at each of them; without a method that has none.
    pairwise : Pairwise
        Every method that has a rank against every other.
    errors : RunErrors
        What all of it is computed from, but the skills at single horizons and at best lengths.
    cells : DataFrame
        The cells that are ranked, failed ones among them.
    at_length : AtLength or None
        What is left where every forecast has its best length, in the function tier of a suite with
        ``lengths = true``.
    """

    ranking: Ranking
    tier: str
    metric: str
    notes: list[str]
    medians: pd.DataFrame
    datasets: list[str]
    horizons: list[str]
    at_horizons: dict[str, list[Estimate]]
    pairwise: Pairwise
    errors: RunErrors
    cells: pd.DataFrame
    at_length: AtLength | None = None

    @property
    def spoken(self) -> str:
        """The metric with the horizons and data sets that a skill by it is about."""
        return f"{spoken_metric(self.metric, self.horizons)}, on {listed(self.datasets)}"


def rank_results(
    results: Results,
    *,
    tier: str = "weights",
    metric: str | None = None,
    baseline: str = BASELINE,
    only: list[str] | None = None,
    datasets: list[str] | None = None,
    track: str = "main",
    split: str = WHOLE,
) -> Leaderboard:
    """Rank a result folder's methods, on the cells that all of them have been run on.

    Parameters
    ----------
    results : Results
    tier : str
    metric : str, optional
        By default the tier's headline. In the weights tier that is `rel_sum`; with a method among
        them that ran on the coordinate sample only, it is `rel_sum_sample`, for all of them. In the
        function tier it is ``train_loss``, the geometric mean over the horizons that are measured.
    baseline : str
    only : list of str, optional
        Labels of the methods to rank.
    datasets : list of str, optional
        The data sets to rank on; by default all that are admitted.
    track : str
        ``"main"`` ranks on the data sets that pass their admission gates. The others are ranked
        apart from it; there a gate that failed is said and no more, for a fine-tune hardly moves.
    split : str
        ``"seeds"`` for whole runs, a window's name, or ``"train-3"`` for fits on three runs.

    Raises
    ------
    InputError
        If the tier, the metric, the baseline, the track, the split or a data set is unknown.
    """
    cells, notes = admitted(results, tier, track, split)
    if datasets is not None:
        known = sorted(set(cells["dataset"]))
        if lacking := sorted(set(datasets) - set(known)):
            raise unknown("ranked data set", lacking[0], known)
        cells = cells[cells["dataset"].isin(datasets)]
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
    usable += [name for name in OVER_HORIZONS if f"{name}_last" in usable]
    if chosen not in usable:
        raise unknown(f"metric of the {tier} tier", chosen, usable)
    if tier == "weights" and not chosen.endswith("_sample") and sampled:
        cells = cells[~cells["label"].isin(sampled)]
        notes.append(f"{', '.join(sampled)}: no result on every coordinate, left out")
    if baseline not in set(cells["label"]):
        raise unknown("baseline", baseline, sorted(set(cells["label"])))
    common = common_cells(cells, baseline)
    cells = common.cells
    notes += common.notes
    methods = sorted(set(cells["label"]))
    labels = horizon_labels(cells, chosen)
    columns = columns_of(chosen, labels)
    sets = lay_out(cells, columns, methods)
    if track != "main":
        places = cells[["dataset", "trained_on"]].drop_duplicates()
        for dataset, trained_on in sorted(places.itertuples(index=False, name=None)):
            shared = results.sharing.get((str(dataset), str(trained_on), track, split), {})
            notes.append(f"{place_name(dataset, trained_on)}: {sharing_line(shared)}")
    ranking = rank_sets(methods, sets, baseline)
    ranking.unranked.extend(common.unranked)
    notes += [*ranking.left_out, *failure_notes(ranking)]
    if (track, split) == ("main", WHOLE):
        notes += audit_notes(results, tier)
    lengths = None
    if measured(cells, best := length_columns(columns)):
        lengths = at_length(cells, methods, sets, lay_out(cells, best, methods), baseline)
    if lengths is not None:
        notes.append(lengths.note)
    return Leaderboard(
        ranking=ranking,
        tier=tier,
        metric=chosen,
        notes=notes,
        medians=_medians(cells, columns, ranking),
        datasets=sorted({data.dataset for data in sets}),
        horizons=labels,
        at_horizons=skills_at(cells, chosen, labels, methods, baseline),
        pairwise=compare_pairs(methods, sets, baseline),
        errors=RunErrors(methods, sets, horizon_names(chosen, labels)),
        cells=cells,
        at_length=lengths,
    )


def compare_pairs(methods: list[str], sets: list[SetErrors], baseline: str) -> Pairwise:
    """Compare those that compete; who is told the truth does not."""
    competing = [label for label in methods if not _is_told(label)]
    return pairwise(*run_errors(competing, _only(sets, methods, competing), baseline))


def _medians(cells: pd.DataFrame, columns: list[str], ranking: Ranking) -> pd.DataFrame:
    order = [one.method for one in ranking.standings] + [one.method for one in ranking.unranked]
    medians = cells[cells["status"] == "ok"].groupby(["label", "dataset", "context"])[columns]
    table = medians.median()
    over = np.exp(np.log(table.clip(lower=np.finfo(float).tiny)).mean(axis=1, skipna=False))
    one = table[columns[0]] if len(columns) == 1 else over
    return one.unstack(["dataset", "context"]).reindex(order)


def skills_at(
    cells: pd.DataFrame, metric: str, labels: list[str], methods: list[str], baseline: str
) -> dict[str, list[Estimate]]:
    """Return skills at single horizons; what runs on the sample alone has none."""
    if not labels:
        return {}
    columns = [f"{AT_HORIZONS[metric]}_{label}" for label in labels]
    ok = cells[cells["status"] == "ok"]
    here = sorted(set(ok["label"][ok[columns].notna().all(axis=1)]) | {baseline})
    told = [label for label in methods if label in here]
    try:
        return horizon_skills(
            told, lay_out(cells[cells["label"].isin(told)], columns, told), baseline
        )
    except InputError:  # the headline is ranked on data where a single horizon is not defined
        return {}


def rank_sets(methods: list[str], sets: list[SetErrors], baseline: str) -> Ranking:
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
    """Narrow errors (methods, ...) down to some of the methods."""
    rows = [methods.index(label) for label in kept]
    return [data.only(rows, np.ones(len(data.runs), dtype=bool)) for data in sets]


def admitted(results: Results, tier: str, track: str, split: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells that a ranking is about, and what its data sets' gates say against it."""
    cells = results.cells
    for column, asked in (("track", track), ("split", split), ("tier", tier)):
        known = sorted(set(cells[column]))
        if (column, asked) == ("track", "main") and known and asked not in known:
            raise InputError(f"nothing here is of the track main; there is {', '.join(known)}")
        if column == "tier" and asked == "function" and asked not in known:
            raise InputError("; ".join(absent_tiers(results, asked)) or f"no {asked} tier yet")
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


def lay_out(cells: pd.DataFrame, columns: list[str], methods: list[str]) -> list[SetErrors]:
    """Lay cells out as arrays, a data set each; all methods have been run on all of them."""
    import pandas as pd

    methods_of = pd.Index(methods).get_indexer(cells["label"])
    whole = [cells[name].to_numpy(np.int64) for name in ("context", "run", "repeat", "rotation")]
    errors = cells[columns].to_numpy(np.float64, copy=True)
    errors[(cells["status"] != "ok").to_numpy()] = np.nan
    found = [
        _set_errors(
            place_name(str(dataset), str(trained_on)),
            (len(methods), methods_of[rows]),
            tuple(column[rows] for column in whole),
            errors[rows],
        )
        for (dataset, trained_on), rows in cells.groupby(["dataset", "trained_on"]).indices.items()
    ]
    return sorted(found, key=lambda data: data.dataset)


def _set_errors(
    name: str,
    methods: tuple[int, NDArray[np.intp]],
    whole: tuple[NDArray[np.int64], ...],
    values: NDArray[np.float64],
) -> SetErrors:
    """Lay one data set's cells out.

    Parameters
    ----------
    name : str
    methods : int and ndarray, shape (cells,)
        How many there are, and each cell's.
    whole : tuple of ndarray, shape (cells,) each
        Context, run, repeat and rotation.
    values : ndarray, shape (cells, columns)
    """
    count, of_method = methods
    context, run, repeat, rotation = whole
    contexts, at_context = np.unique(context, return_inverse=True)
    runs, first, at_run = np.unique(run, return_index=True, return_inverse=True)
    # Fits are counted as they are, whatever their numbers.
    fits, at_fit = np.unique(np.stack([of_method, repeat]), axis=1, return_inverse=True)
    at_fit = at_fit.ravel()
    repeats = np.bincount(fits[0], minlength=count)
    before = np.cumsum(repeats) - repeats
    errors = np.full((count, len(contexts), values.shape[1], len(runs), int(repeats.max())), np.nan)
    errors[of_method, at_context, :, at_run, at_fit - before[of_method]] = values
    return SetErrors(
        name,
        tuple(contexts.tolist()),
        tuple(runs.tolist()),
        errors,
        rotations=tuple(rotation[first].tolist()),
        repeats=tuple(repeats.tolist()),
    )


def ranking_table(
    ranking: Ranking,
    horizons: Sequence[str] = (),
    at_horizons: Mapping[str, Sequence[Estimate]] | None = None,
    pairwise: Pairwise | None = None,
) -> pd.DataFrame:
    """Return a ranking as a table, with skills at single horizons and bands of ranks if they are.

    Methods that are not ranked come last, with nothing but their failures. ``skill_iqm`` is 1 − the
    interquartile mean of errors over the baseline's.
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
    table = pd.DataFrame([*rows, *below])
    blank = [Estimate()] * len(horizons)
    told = [(at_horizons or {}).get(method, blank) for method in table["method"]]
    for place, label in enumerate(horizons):
        for name, values in _columns(f"skill_{label}", [one[place] for one in told]).items():
            table[name] = values
    if pairwise is not None:
        ranked = [m if m in pairwise.methods else None for m in table["method"]]
        bands = [pairwise.band(m) if m else (None, None) for m in ranked]
        table["rank_lower"], table["rank_upper"] = zip(*bands, strict=True)
    middles = {s.method: s.middle for s in ranking.standings}
    middle = [middles.get(method, Estimate()) for method in table["method"]]
    return table.assign(**_columns("skill_iqm", middle))


def board_table(board: Leaderboard) -> pd.DataFrame:
    """Return a folder's ranking as ``--csv`` writes it: with tier, metric, horizons and medians.

    The skills at single horizons are ``skill_h5`` and so on, those at best lengths
    ``skill_length``, the median errors ``error of DATASET, context N``.
    """
    table = ranking_table(board.ranking, board.horizons, board.at_horizons, board.pairwise)
    if (lengths := board.at_length) is not None:
        at_best = [lengths.skills.get(method, Estimate()) for method in table["method"]]
        for name, values in _columns("skill_length", at_best).items():
            table[name] = values
    table["tier"], table["metric"] = board.tier, board.metric
    # All at once: pandas warns of tables that a hundred columns were put into one by one.
    medians = board.medians.reindex(table["method"]).set_axis(table.index)
    medians.columns = [f"error of {name}, context {n}" for name, n in board.medians.columns]
    return table.join(medians)


def _columns(name: str, estimates: list[Estimate]) -> dict[str, list[float]]:
    rows = [estimate.columns(name) for estimate in estimates]
    return {column: [row[column] for row in rows] for column in Estimate().columns(name)}
