"""What is left of a skill in function where every forecast has its best length.

Of cells that were measured with ``lengths = true``: `weightcast.bench.scoring.lengths` says how the
length is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.horizons import LABELS
from weightcast.bench.results.inference.errors import SetErrors
from weightcast.bench.results.inference.ranking import rank_runs
from weightcast.bench.scoring.lengths import EVALUATIONS, LENGTHS
from weightcast.datasets import InputError

if TYPE_CHECKING:
    import pandas as pd

#: The control: one direction that any run has, w_n − w_0.
CONTROL = "fixed-step"
_LOSSES = ("train_loss", "test_loss")


@dataclass(frozen=True)
class AtLength:
    """Methods with each forecast at its best length.

    Attributes
    ----------
    skills : dict of str to Estimate
        Method → its skill, over the baseline as it is.
    control : str
        The label of `CONTROL`; empty where it is not among the methods.
    beyond : dict of str to Estimate
        Method → its skill over the control, both at their best lengths, paired.
    lengths : dict of str to dict
        Method → horizon (``h5`` and so on) → the median length over cells.
    evaluations : dict of str to float
        Method → training losses measured for a cell, all horizons together, the median.
    """

    skills: dict[str, Estimate]
    control: str = ""
    beyond: dict[str, Estimate] = field(default_factory=dict)
    lengths: dict[str, dict[str, float]] = field(default_factory=dict)
    evaluations: dict[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What is measured, and how many training losses that took."""
        shortest, longest = min(LENGTHS), max(LENGTHS)
        dearest = max(self.evaluations, key=lambda label: self.evaluations[label])
        return (
            "at its best length: the same forecast at w_n + a (forecast − w_n), a chosen at each "
            f"horizon by at most {EVALUATIONS} training losses, of 0, {len(LENGTHS)} lengths from "
            f"{shortest:g} to {longest:g} and what lies around the best; up to "
            f"{self.evaluations[dearest]:.0f} losses a cell ({dearest}, the median)"
        )


def length_columns(columns: Sequence[str]) -> list[str]:
    """Name the columns of the same losses at the best length; none for what is no loss.

    Examples
    --------
    >>> length_columns(["train_loss_h5", "train_loss_last"])
    ['train_loss_length_h5', 'train_loss_length_last']
    >>> length_columns(["rel_sum"]), length_columns(["train_loss_length_h5"])
    ([], [])
    """
    at = [name.rpartition("_") for name in columns]
    if not all(loss in _LOSSES and label in LABELS for loss, _, label in at):
        return []
    return [f"{loss}_length_{label}" for loss, _, label in at]


def measured(cells: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether every cell with a result was measured at its best length."""
    if not columns or not set(columns) <= set(cells.columns):
        return False
    return bool(cells.loc[cells["status"] == "ok", list(columns)].notna().all(axis=None))


def at_length(
    cells: pd.DataFrame,
    methods: Sequence[str],
    plain: Sequence[SetErrors],
    best: Sequence[SetErrors],
    baseline: str,
) -> AtLength | None:
    """Compare methods at their best lengths; None where there is nothing to compare.

    Parameters
    ----------
    cells : DataFrame
        All that is compared.
    methods : sequence of str
    plain, best : sequence of SetErrors
        The errors of the forecasts as they are, and at their best lengths.
    baseline : str
        One of the methods; skills are relative to it as it is.
    """
    base = list(methods).index(baseline)
    both = [_with_plain(one, other, base) for one, other in zip(best, plain, strict=True)]
    as_it_is = f"{baseline} as it is"
    try:
        ranking = rank_runs([*methods, as_it_is], both, as_it_is)
    except InputError:
        return None
    skills = {s.method: s.skill for s in ranking.standings if s.method != as_it_is}
    control = next((label for label in methods if label.partition("(")[0] == CONTROL), "")
    beyond: dict[str, Estimate] = {}
    if control in skills:
        try:
            found = rank_runs(methods, best, control)
            beyond = {s.method: s.skill for s in found.standings if s.method != control}
        except InputError:  # a cell of the control's failed
            control = ""
    ok = cells[cells["status"] == "ok"]
    names = [name for name in (f"length_{label}" for label in LABELS) if name in ok.columns]
    lengths = ok.groupby("label")[names].median()
    counts = ok[[f"evaluations_{name}" for name in names]].sum(axis=1).groupby(ok["label"])
    return AtLength(
        skills=skills,
        control=control,
        beyond=beyond,
        lengths={
            str(label): {name.removeprefix("length_"): float(row[name]) for name in names}
            for label, row in lengths.iterrows()
        },
        evaluations={str(label): float(value) for label, value in counts.median().items()},
    )


def _with_plain(best: SetErrors, plain: SetErrors, base: int) -> SetErrors:
    """Put the baseline as it is behind the methods at their best lengths."""
    repeats = (*best.repeats, plain.repeats[base]) if best.repeats else ()
    errors = np.concatenate([best.errors, plain.errors[base : base + 1]])
    return replace(best, errors=errors, repeats=repeats)
