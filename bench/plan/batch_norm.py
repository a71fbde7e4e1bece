"""A suite's rule for what batch norms get beside forecast weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weightcast.datasets.trajectory import State, Trajectory

MEAN, VARIANCE = "running_mean", "running_var"


@dataclass(frozen=True)
class BatchNorm:
    """A suite's rule.

    Attributes
    ----------
    rule : str
        ``"re-estimate"``, ``"keep"`` or ``"forecast"``.
    batches : int, optional
        Re-estimate on so many of the first batches; on all training data that are measured by
        default.
    """

    rule: str = "re-estimate"
    batches: int | None = None


def has_statistics(run: Trajectory) -> bool:
    """Whether a run recorded batch-norm statistics."""
    return bool(statistic_names(run.state(0)))


def statistic_names(state: State) -> list[str]:
    """Name the means and variances among what a network keeps beside its weights."""
    return [
        name
        for name, values in state.items()
        if name.endswith((MEAN, VARIANCE)) and np.issubdtype(values.dtype, np.floating)
    ]
