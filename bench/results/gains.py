"""Whether methods that gain more in weights gain more in function: rank correlations by horizon.

A method's gain is taken against the last value: in weights the logarithm of 1 over its median
relative error at a horizon, in function that of the last value's median train loss over its own.
The correlation is Spearman's over methods, on one data set and context at one horizon.

Its interval redraws runs and methods together, so it holds for other runs and for other methods of
the kind; its p-value permutes one gain among the methods. Methods whose forecasts are nearly one
another's would count one result several times: of those that agree to `ALIKE` in every run, at
every horizon and in both tiers, the first by name is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.verdicts import MOST_FAILED
from weightcast.bench.results.cells import OWN
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import LABELS
from weightcast.bench.results.inference.redraws import Redraw
from weightcast.bench.results.tables import Results

if TYPE_CHECKING:
    import pandas as pd

Doubles = NDArray[np.float64]

#: Errors and losses that differ by less than this factor in every run are one method's, twice.
ALIKE = 1.02
#: Of fewer methods a rank correlation says next to nothing.
FEWEST = 5
#: Which methods a correlation is over.
AMONG = ("all", "beating")
_DRAWS = 1000
_PERMUTATIONS = 9999


@dataclass(frozen=True)
class GainCorrelation:
    """The rank correlation of gains on one task at one horizon.

    Attributes
    ----------
    dataset : str
    context : int
    horizon : str
        ``h5``, ``h10``, ``h20`` or ``last``.
    among : str
        ``"all"`` methods but the last value, or those ``"beating"`` it in weights there.
    methods : list of str
        Over which it is taken; near-duplicates are left out.
    rho : Estimate
        Unknown for fewer than `FEWEST` methods.
    p : float
        Two-sided, of methods permuted; NaN where ``rho`` is unknown.
    """

    dataset: str
    context: int
    horizon: str
    among: str
    methods: list[str]
    rho: Estimate
    p: float


@dataclass(frozen=True)
class Gains:
    """What methods gain on one task, run by run.

    Attributes
    ----------
    methods : list of str
        In alphabetical order, the last value and near-duplicates left out.
    alike : dict of str to str
        Who was left out → who stands for it.
    horizons : list of str
    errors : ndarray, shape (methods, horizons, runs)
        Relative errors in weights.
    losses : ndarray, shape (methods, horizons, runs)
        Train losses of the networks.
    base : ndarray, shape (horizons, runs)
        The last value's train losses.
    """

    dataset: str
    context: int
    methods: list[str]
    alike: dict[str, str]
    horizons: list[str]
    errors: Doubles
    losses: Doubles
    base: Doubles

    def at(self, place: int, runs: NDArray[np.int64] | None = None) -> tuple[Doubles, Doubles]:
        """Return gains in weights and in function at a horizon: (methods,).

        With ``runs`` (draws, runs), some of them repeated, those of each draw: (methods, draws).
        """
        each = np.stack([*self.errors[:, place], *self.losses[:, place], self.base[place]])
        if runs is None:
            medians = np.median(each, axis=-1)
        else:
            drawn = Redraw(runs, np.zeros(each.shape[-1], dtype=np.int64), None)
            medians = drawn.medians(each[..., None]).T
        errors, losses, base = np.split(medians, [len(self.errors), len(each) - 1])
        tiny = np.finfo(np.float64).tiny
        return -np.log(np.maximum(errors, tiny)), np.log(base / np.maximum(losses, tiny))


def gain_correlations(
    results: Results, gains: Sequence[Gains] | None = None
) -> list[GainCorrelation]:
    """Correlate gains in weights and in function on every task with measured networks.

    Parameters
    ----------
    results : Results
    gains : sequence of Gains, optional
        What `all_gains` found in them, for who has it.

    Returns
    -------
    list of GainCorrelation
        By data set, context, horizon and `AMONG`.
    """
    return [
        correlation(found, place, among)
        for found in (all_gains(results) if gains is None else gains)
        for place in range(len(found.horizons))
        for among in AMONG
    ]


def correlations_table(found: Sequence[GainCorrelation]) -> pd.DataFrame:
    """Return correlations as a table: ``dataset,context,horizon,among,methods,rho,...,p``."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "dataset": one.dataset,
                "context": one.context,
                "horizon": one.horizon,
                "among": one.among,
                "methods": len(one.methods),
                **one.rho.columns("rho"),
                "p": one.p,
            }
            for one in found
        ]
    )


def all_gains(results: Results) -> list[Gains]:
    """Return the gains on every task of whole runs that has networks, shifts left out."""
    cells = results.cells
    cells = cells[(cells["split"] == "seeds") & cells["track"].isin(OWN)]
    found = []
    for (dataset, context), part in cells.groupby(["dataset", "context"], sort=True):
        gains = _gains_on(str(dataset), int(context), part)
        if gains is not None:
            found.append(gains)
    return found


def _gains_on(dataset: str, context: int, cells: pd.DataFrame) -> Gains | None:
    tiers = dict(iter(cells.groupby("tier")))
    if not {"weights", "function"} <= set(tiers):
        return None
    horizons = [
        label
        for label in LABELS
        if {f"rel_{label}", f"train_loss_{label}"} <= set(cells.columns)
        and tiers["weights"][f"rel_{label}"].notna().any()
        and tiers["function"][f"train_loss_{label}"].notna().any()
    ]
    in_function = _with_results(tiers["function"], "train_loss_last")
    names = sorted(_with_results(tiers["weights"], "rel_sum") & in_function)
    if not horizons or BASELINE not in names:
        return None
    tables = {
        tier: _tables(tiers[tier], names, [f"{prefix}_{horizon}" for horizon in horizons])
        for tier, prefix in (("weights", "rel"), ("function", "train_loss"))
    }
    runs = sorted(
        set.intersection(*(set(t.index) for part in tables.values() for t in part.values()))
    )
    if not runs:
        return None
    # (methods, horizons, runs)
    errors, losses = (
        np.stack([tables[tier][m].loc[runs].to_numpy(float).T for m in names])
        for tier in ("weights", "function")
    )
    base = names.index(BASELINE)
    kept, alike = _apart(names, errors, losses)
    return Gains(
        dataset,
        context,
        [names[i] for i in kept],
        alike,
        horizons,
        errors[kept],
        losses[kept],
        losses[base],
    )


def _with_results(cells: pd.DataFrame, column: str) -> set[str]:
    """Return the methods that are in a tier, on every coordinate, and hardly ever failed."""
    if column not in cells:
        return set()
    by_method = cells.assign(failed=cells["status"] != "ok").groupby("label")
    kept = (by_method["failed"].mean() <= MOST_FAILED) & (by_method[column].count() > 0)
    return set(kept.index[kept])


def _tables(cells: pd.DataFrame, names: list[str], columns: list[str]) -> dict[str, pd.DataFrame]:
    """Return each method's numbers, a row a run, over its fits the median; failed runs left out."""
    ok = cells[(cells["status"] == "ok") & cells["label"].isin(names)]
    found = ok.groupby(["label", "run"])[columns].median().dropna()
    have = set(found.index.get_level_values("label"))
    return {m: found.loc[m] if m in have else found.iloc[:0].droplevel("label") for m in names}


def _apart(names: list[str], errors: Doubles, losses: Doubles) -> tuple[list[int], dict[str, str]]:
    """Leave out the last value, and of methods that are alike all but the first."""
    tiny = np.finfo(np.float64).tiny
    both = np.log(np.maximum(np.concatenate([errors, losses], axis=1), tiny))
    kept: list[int] = []
    alike: dict[str, str] = {}
    for i, name in enumerate(names):
        if name == BASELINE:
            continue
        twin = next((k for k in kept if np.abs(both[i] - both[k]).max() < np.log(ALIKE)), None)
        if twin is None:
            kept.append(i)
        else:
            alike[name] = names[twin]
    return kept, alike


def correlation(gains: Gains, place: int, among: str) -> GainCorrelation:
    """Correlate the gains at one horizon, over all methods or those that beat the last value."""
    weights, function = gains.at(place)
    chosen = np.arange(len(weights)) if among == "all" else np.flatnonzero(weights > 0)
    rho, p = Estimate(), float("nan")
    if len(chosen) >= FEWEST:
        value = float(_spearman(weights[chosen], function[chosen]))
        rho = Estimate(value, *_interval(gains, place, chosen))
        p = _permuted(weights[chosen], function[chosen], value)
    return GainCorrelation(
        gains.dataset,
        gains.context,
        gains.horizons[place],
        among,
        [gains.methods[i] for i in chosen],
        rho,
        p,
    )


def _interval(gains: Gains, place: int, chosen: NDArray[np.int64]) -> tuple[float, float]:
    """Redraw runs and methods together; draws of fewer than three methods say nothing."""
    random = np.random.default_rng(123)
    runs = gains.errors.shape[-1]
    both = gains.at(place, random.integers(runs, size=(_DRAWS, runs)))
    methods = random.choice(chosen, (_DRAWS, len(chosen)))
    several = np.array([len(np.unique(drawn)) >= 3 for drawn in methods])
    weights, function = (np.take_along_axis(one.T, methods, axis=1)[several] for one in both)
    lower, upper = np.nanquantile(_spearman(weights, function), [0.025, 0.975])
    return float(lower), float(upper)


def _permuted(weights: Doubles, function: Doubles, value: float) -> float:
    """Two-sided p-value: how often gains dealt out to methods at random correlate as much."""
    random = np.random.default_rng(123)
    one, other = _standard(weights), _standard(function)
    dealt = random.permuted(np.tile(other, (_PERMUTATIONS, 1)), axis=1)
    as_much = np.abs(dealt @ one) >= abs(value) - 1e-12
    return float((1 + as_much.sum()) / (1 + _PERMUTATIONS))


def _spearman(one: Doubles, other: Doubles) -> Doubles:
    """Spearman's correlations along the last axis: (..., methods) → (...)."""
    correlations: Doubles = (_standard(one) * _standard(other)).sum(axis=-1)
    return correlations


def _standard(values: Doubles) -> Doubles:
    """Return ranks along the last axis, centred and of length 1; NaN where all are the same."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    out = np.full_like(ranks, np.nan)
    standard: Doubles = np.divide(ranks, length, out=out, where=length > 0)
    return standard
