"""What results are told by where nobody says more: each tier's metric, and the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.results.horizons import OVER_HORIZONS, columns_of, horizon_labels
from weightcast.datasets.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "last-value"
#: Of the function tier it is the geometric mean over the horizons at which networks are measured.
DEFAULT_METRIC = {"weights": "rel_sum", "function": "train_loss"}


def with_error(part: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Add the column ``error``: the metric, of a sampled method that on its sample."""
    if metric in OVER_HORIZONS:
        labels = horizon_labels(part, metric)
        logs = np.log(part[columns_of(metric, labels)].clip(lower=np.finfo(float).tiny))
        errors = np.exp(logs.mean(axis=1, skipna=False))
    elif metric in part.columns:
        errors = part[metric]
        if f"{metric}_sample" in part.columns:
            errors = errors.fillna(part[f"{metric}_sample"])
    else:
        known = [name for name in part.columns if name.startswith(("rel_", "train_", "test_"))]
        raise unknown("metric", metric, [*known, *OVER_HORIZONS])
    return part.assign(error=errors.where(part["status"] == "ok").astype(float))
