"""An audit's verdicts: what a method was published with, beside what it does on fresh runs.

Errors are those of the tier's headline, over the baseline's in the same run, so that runs of one
recipe compare whatever their scale; of a method with several fits a run has the median over them.
A failed cell counts as the baseline, or as the method's worst run where that is worse. Published
and fresh runs are different runs: Welch's test on the logarithms asks whether the fresh ones are
worse, one-sided, and p-values are adjusted by Holm's method over all comparisons of the audit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.headline import BASELINE, DEFAULT_METRIC, with_error
from weightcast.bench.results.inference.pairwise import holm
from weightcast.bench.results.tables import Results
from weightcast.datasets.errors import InputError
from weightcast.datasets.files.partial_file import write_text

if TYPE_CHECKING:
    import pandas as pd

Doubles = NDArray[np.float64]
Verdict = Literal["confirmed", "not confirmed", "too few runs"]

#: The folder of an audit within the results that it is of, and the file with its verdicts.
FOLDER, FILE = "audit", "audit.json"
#: Of fewer runs on either side there is no test.
FEWEST = 3
_LEVEL, _DRAWS = 0.05, 1000
_SET = ["tier", "label", "dataset", "context"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class AuditRow(BaseModel):
    """One method on one task and tier.

    Attributes
    ----------
    published, fresh : tuple of float
        Geometric mean over runs of the error over the baseline's, and its 95 % interval.
    runs, fresh_runs : int
    p : float or None
        That fresh runs are worse; adjusted.
    of : str
        A hash of the published errors: of others the verdict says nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tier: str
    metric: str
    method: str
    dataset: str
    context: int
    runs: int
    fresh_runs: int
    published: tuple[Finite, Finite, Finite]
    fresh: tuple[Finite, Finite, Finite]
    failures: int
    p: Finite | None
    verdict: Verdict
    of: str

    @property
    def task(self) -> str:
        return f"{self.dataset}, context {self.context}"


class Audit(BaseModel):
    """All that an audit found.

    Attributes
    ----------
    made : str
        When, in UTC.
    seeds : dict of str to list of int
        Data set → the fresh runs, drawn at that moment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    made: str
    seeds: dict[str, list[int]]
    rows: list[AuditRow]


def audit_rows(published: Results, fresh: Results) -> list[AuditRow]:
    """Hold fresh runs against published ones, for every method that both folders have.

    Raises
    ------
    InputError
        If they have no method and task in common beside the baseline.
    """
    found: list[tuple[AuditRow, float]] = []
    for tier in sorted(set(fresh.cells["tier"]), reverse=True):
        old, new = (_errors(results, tier) for results in (published, fresh))
        for key, theirs in new.groupby(_SET, sort=True):
            ours = _of(old, key)
            if key[1] != BASELINE and ours["ratio"].notna().any():
                found.append(_row(DEFAULT_METRIC[tier], key, ours, theirs))
    if not found:
        raise InputError(f"{published.folder} and its audit have no method in common")
    return _judged(found)


def write_audit(folder: Path, audit: Audit) -> None:
    """Write an audit's verdicts into the folder that it is of."""
    write_text(folder / FOLDER / FILE, audit.model_dump_json(indent=1) + "\n")


def read_audit(folder: Path) -> Audit | None:
    """Read the verdicts of a folder's audit; None where there are none.

    Raises
    ------
    InputError
        If the file is not as Weightcast writes it.
    """
    path = folder / FOLDER / FILE
    try:
        return Audit.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no audit's ({reason}); audit again, or remove it") from None


def audit_notes(results: Results, tier: str) -> list[str]:
    """Say what an audit of these results did not confirm, and what it is of no more."""
    audit = read_audit(results.folder)
    if audit is None:
        return []
    rows = [row for row in audit.rows if row.tier == tier]
    errors, notes, stale = _errors(results, tier), [], 0
    for row in rows:
        here = _of(errors, (row.tier, row.method, row.dataset, row.context))
        if _hash(here) != row.of:
            stale += 1
        elif row.verdict == "not confirmed":
            notes.append(
                f"{row.method} is not confirmed on {row.task}: {row.published[0]:.3f} of "
                f"{BASELINE}'s error as published, {row.fresh[0]:.3f} on {row.fresh_runs} fresh "
                f"runs (audit of {audit.made})"
            )
    if stale:
        notes.append(
            f"{stale} verdicts of the audit of {audit.made} are of other results than these; "
            "audit again"
        )
    return notes


def _errors(results: Results, tier: str) -> pd.DataFrame:
    """Return a row a cell on whole runs, with its error over the baseline's in the run."""
    cells = results.cells
    own = (cells["split"] == "seeds") & (cells["dataset"] == cells["trained_on"])
    cells = with_error(cells[own & (cells["tier"] == tier)], DEFAULT_METRIC[tier])
    run = ["dataset", "context", "run"]
    base = cells[cells["label"] == BASELINE].groupby(run)["error"].median().rename("base")
    cells = cells.merge(base, left_on=run, right_index=True, how="inner")
    return cells.assign(ratio=cells["error"] / cells["base"])


def _of(errors: pd.DataFrame, key: Sequence[object]) -> pd.DataFrame:
    for name, value in zip(_SET, key, strict=True):
        errors = errors[errors[name] == value]
    return errors


def _hash(cells: pd.DataFrame) -> str:
    """Hash the errors of some cells, whatever order they are in."""
    columns = zip(cells["run"], cells["repeat"], cells["ratio"], strict=True)
    lines = sorted(f"{run} {repeat} {float(ratio):.9g}" for run, repeat, ratio in columns)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _row(
    metric: str, key: Sequence[object], ours: pd.DataFrame, theirs: pd.DataFrame
) -> tuple[AuditRow, float]:
    """Return what both sides say, and the p-value before it is adjusted; NaN without a test."""
    tier, method, dataset, context = key
    old, new = _logs(ours), _logs(theirs)
    p = _worse(old, new)
    row = AuditRow(
        tier=str(tier),
        metric=metric,
        method=str(method),
        dataset=str(dataset),
        context=int(str(context)),
        runs=len(old),
        fresh_runs=len(new),
        published=_interval(old),
        fresh=_interval(new),
        failures=int(theirs["ratio"].isna().sum()),
        p=None,
        verdict="too few runs",
        of=_hash(ours),
    )
    return row, p


def _logs(cells: pd.DataFrame) -> Doubles:
    """Return the logarithm of each run's ratio, with failures charged."""
    tiny = np.finfo(np.float64).tiny
    ratio = cells["ratio"].clip(lower=tiny)
    charged = ratio.fillna(max(1.0, float(np.nan_to_num(ratio.max(), nan=1.0))))
    runs = charged.groupby(cells["run"]).median()
    logs: Doubles = np.log(runs.to_numpy(float))
    return logs


def _interval(logs: Doubles) -> tuple[float, float, float]:
    draws = np.random.default_rng(123).integers(len(logs), size=(_DRAWS, len(logs)))
    lower, upper = np.quantile(logs[draws].mean(axis=1), [0.025, 0.975])
    return float(np.exp(logs.mean())), float(np.exp(lower)), float(np.exp(upper))


def _worse(old: Doubles, new: Doubles) -> float:
    """Return Welch's one-sided p-value that new runs have larger errors."""
    from scipy.stats import ttest_ind

    if min(len(old), len(new)) < FEWEST:
        return float("nan")
    gap = float(new.mean() - old.mean())
    if max(np.ptp(old), np.ptp(new)) < 1e-9:  # rounding apart, each run is like the others
        return 1.0 if gap < 1e-9 else 0.0
    return float(ttest_ind(new, old, equal_var=False, alternative="greater").pvalue)


def _judged(found: list[tuple[AuditRow, float]]) -> list[AuditRow]:
    adjusted = np.array([p for _, p in found])
    tested = ~np.isnan(adjusted)
    adjusted[tested] = holm(adjusted[tested])
    rows = []
    for (row, _), p in zip(found, adjusted, strict=True):
        if np.isnan(p):
            rows.append(row)
            continue
        beyond = row.fresh[0] > row.published[2]
        verdict = "not confirmed" if p < _LEVEL and beyond else "confirmed"
        rows.append(row.model_copy(update={"p": float(p), "verdict": verdict}))
    order = {"not confirmed": 0, "too few runs": 1, "confirmed": 2}
    rows.sort(key=lambda r: (order[r.verdict], r.tier != "weights", r.task, r.method))
    return rows


def estimates(row: AuditRow) -> tuple[Estimate, Estimate]:
    """Return a row's two numbers with their intervals."""
    return Estimate(*row.published), Estimate(*row.fresh)
