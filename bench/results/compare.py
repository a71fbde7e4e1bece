"""What changed between two result folders: method by method and task by task, on common runs.

Both folders have the same runs, so errors are compared run by run: the ratio is that of the medians
over runs, its interval redraws runs, both folders' errors of a run together, and its p-value is
Wilcoxon's signed-rank test on the logarithms of the runs' ratios, two-sided, adjusted by Holm's
method over all comparisons. Of a method with several fits a run has the median over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.headline import DEFAULT_METRIC, with_error
from weightcast.bench.results.inference.pairwise import holm
from weightcast.bench.results.tables import Results
from weightcast.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

Doubles = NDArray[np.float64]

WORSE, BETTER, SAME, FEW = "worse", "better", "not distinguishable", "too few runs"
FAILS = "more failures"
_TASK = ["dataset", "trained_on", "track", "split", "context"]
#: Of fewer common runs the test cannot reach 5 % for a single comparison.
FEWEST = 6
_LEVEL = 0.05
_DRAWS = 1000


@dataclass(frozen=True)
class Change:
    """One method on one task and tier in both folders.

    Attributes
    ----------
    tier, metric, method, task : str
    runs : int
        Runs with a result in both.
    before, after : float
        Median errors over these runs.
    ratio : Estimate
        After over before; above 1 is worse.
    p : float
        Adjusted by Holm's method; NaN without a test.
    failures : tuple of int
        Failed cells before and after, among those that both folders have.
    verdict : str
        ``worse``, ``better``, ``not distinguishable``, ``too few runs`` or ``more failures``.
    """

    tier: str
    metric: str
    method: str
    task: str
    runs: int
    before: float
    after: float
    ratio: Estimate
    p: float
    failures: tuple[int, int]
    verdict: str = SAME

    @property
    def regression(self) -> bool:
        """Whether it became worse, or fails more often."""
        return self.verdict in (WORSE, FAILS)


@dataclass(frozen=True)
class Comparison:
    """What changed, and what only one of the folders has.

    Attributes
    ----------
    changes : list of Change
        Regressions first, then improvements, then the rest.
    notes : list of str
    """

    changes: list[Change]
    notes: list[str] = field(default_factory=list)


def compare(
    before: Results, after: Results, *, tier: str | None = None, metric: str | None = None
) -> Comparison:
    """Compare two result folders on the cells that both have.

    Parameters
    ----------
    before, after : Results
    tier : str, optional
        ``weights`` or ``function``; by default both, where both folders have them.
    metric : str, optional
        By default each tier's headline. Another one needs a tier.

    Raises
    ------
    InputError
        If the tier or metric is unknown, or the folders have no cell in common.
    """
    shared = sorted(set(before.cells["tier"]) & set(after.cells["tier"]), reverse=True)
    if tier is not None and tier not in shared:
        raise unknown("tier of both folders", tier, shared)
    if metric is not None and tier is None:
        raise InputError("--metric is one tier's; name it with --tier")
    changes = [
        change
        for one in ([tier] if tier else shared)
        for change in _changes(before.cells, after.cells, one, metric or DEFAULT_METRIC[one])
    ]
    if not changes:
        raise InputError(f"{before.folder} and {after.folder} have no cell in common")
    adjusted = _judged(changes)
    order = {WORSE: 0, FAILS: 0, BETTER: 1, SAME: 2, FEW: 3}
    adjusted.sort(key=lambda c: (order[c.verdict], c.tier != "weights", c.task, c.method))
    return Comparison(adjusted, _notes(before, after))


def change_rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return changes as rows of a table: plain values under the names that files have for them."""
    return [
        {
            "tier": c.tier,
            "metric": c.metric,
            "method": c.method,
            "task": c.task,
            "runs": c.runs,
            "before": c.before,
            "after": c.after,
            **c.ratio.columns("ratio"),
            "p": c.p,
            "failures_before": c.failures[0],
            "failures_after": c.failures[1],
            "verdict": c.verdict,
        }
        for c in changes
    ]


def _changes(before: pd.DataFrame, after: pd.DataFrame, tier: str, metric: str) -> list[Change]:
    old, new = (with_error(part[part["tier"] == tier], metric) for part in (before, after))
    found = []
    for key, theirs in new.groupby([*_TASK, "label"], sort=True):
        dataset, trained_on, track, split, context, label = key
        ours = old
        for name, value in zip([*_TASK, "label"], key, strict=True):
            ours = ours[ours[name] == value]
        cells = set(zip(ours["run"], ours["repeat"], strict=True)) & set(
            zip(theirs["run"], theirs["repeat"], strict=True)
        )
        if not cells:
            continue
        both = [_of(part, cells) for part in (ours, theirs)]
        failed = tuple(int((part["status"] != "ok").sum()) for part in both)
        errors = [part.groupby("run")["error"].median().dropna() for part in both]
        runs = sorted(set(errors[0].index) & set(errors[1].index))
        place = dataset if dataset == trained_on else f"{trained_on} → {dataset}"
        aside = "" if track in ("main", "fine-tune") else f" ({track})"
        aside += "" if split == "seeds" else f" ({split})"
        found.append(
            _change(
                Change(
                    tier,
                    metric,
                    str(label),
                    f"{place}{aside}, context {context}",
                    len(runs),
                    float("nan"),
                    float("nan"),
                    Estimate(),
                    float("nan"),
                    (failed[0], failed[1]),
                ),
                *(one.loc[runs].to_numpy(float) for one in errors),
            )
        )
    return found


def _of(part: pd.DataFrame, cells: set[tuple[int, int]]) -> pd.DataFrame:
    keys = zip(part["run"], part["repeat"], strict=True)
    return part[[key in cells for key in keys]]


def _change(change: Change, before: Doubles, after: Doubles) -> Change:
    """Fill in what the errors (runs,) of both folders say."""
    from scipy.stats import wilcoxon

    if not len(before):
        return change
    tiny = np.finfo(np.float64).tiny
    before, after = np.maximum(before, tiny), np.maximum(after, tiny)
    value = float(np.median(after) / np.median(before))
    draws = np.random.default_rng(123).integers(len(before), size=(_DRAWS, len(before)))
    ratios = np.median(after[draws], axis=1) / np.median(before[draws], axis=1)
    lower, upper = np.quantile(ratios, [0.025, 0.975])
    logs = np.log(after / before)
    # What rounding moves is no change.
    logs[np.abs(logs) < 1e-9] = 0.0
    p = float("nan")
    if len(logs) >= FEWEST:
        p = float(wilcoxon(logs).pvalue) if logs.any() else 1.0
    return replace(
        change,
        before=float(np.median(before)),
        after=float(np.median(after)),
        ratio=Estimate(value, float(lower), float(upper)),
        p=p,
    )


def _judged(changes: Sequence[Change]) -> list[Change]:
    """Adjust p-values by Holm's method over all comparisons, and say what each comes to."""
    adjusted = np.array([change.p for change in changes])
    tested = ~np.isnan(adjusted)
    adjusted[tested] = holm(adjusted[tested])
    return [
        replace(change, p=float(p), verdict=_verdict(change, float(p)))
        for change, p in zip(changes, adjusted, strict=True)
    ]


def _verdict(change: Change, p: float) -> str:
    if change.failures[1] > change.failures[0]:
        return FAILS
    if np.isnan(p):
        return FEW
    if p >= _LEVEL:
        return SAME
    return WORSE if change.ratio.value > 1 else BETTER


def _notes(before: Results, after: Results) -> list[str]:
    """Say what only one folder has, and how the machines differ."""
    notes = []
    for name, spoken in (("label", "methods"), ("dataset", "data sets")):
        old, new = set(before.cells[name]), set(after.cells[name])
        for only, folder in ((old - new, before.folder), (new - old, after.folder)):
            if only:
                notes.append(f"only in {folder}: the {spoken} {', '.join(sorted(only))}")
    if before.suite != after.suite:
        notes.append(f"the suites are {before.suite} and {after.suite}")
    old_packages, new_packages = (one.environment.get("packages", {}) for one in (before, after))
    differ = [
        f"{name} {old_packages.get(name) or '—'} and {new_packages.get(name) or '—'}"
        for name in sorted({*old_packages, *new_packages})
        if old_packages.get(name) != new_packages.get(name)
    ]
    cpus = [str(one.environment.get("cpu", "")) for one in (before, after)]
    if cpus[0] != cpus[1]:
        differ.insert(0, f"processor {cpus[0]} and {cpus[1]}")
    if differ:
        notes.append(f"made with different things: {'; '.join(differ)}")
    return notes
