"""The best possible error on data sets whose truth is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from weightcast.bench.scoring.metrics import WeightErrors
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import GeneratedDataSet, all_datasets


@lru_cache(maxsize=256)
def best_possible(
    dataset: str, context: int, runs: tuple[int, ...] | None = None, sample: int | None = None
) -> float | None:
    """Return the median `rel_sum` of the forecast that knows the problem and its expected path.

    What training runs will do by chance is in nobody's reach, so no method's error is lower but by
    luck.

    Parameters
    ----------
    dataset : str
    context : int
    runs : tuple of int, optional
        Seeds; those that the data set does not have are passed over. All by default.
    sample : int, optional
        Size of the fixed sample of coordinates to measure on; every coordinate by default.

    Returns
    -------
    float or None
        None where the data set has no oracle, no such runs or no snapshot after the context.
    """
    known = all_datasets().get(dataset)
    if not isinstance(known, GeneratedDataSet) or known.oracle is None:
        return None
    found = []
    for seed in known.seeds:
        if runs is not None and seed not in runs:
            continue
        run = known.run(seed)
        if context >= run.n_snapshots - 1:
            return None
        forecast = known.oracle(run, context).T.astype(np.float32)  # (d, m)
        kept = np.arange(run.n_coordinates)
        if sample is not None:
            kept = coordinate_sample(dataset, run.n_coordinates, sample)
        errors = WeightErrors(forecast.shape[1])
        for info in run.tensors:
            path = run.read(info, range(context, run.n_snapshots)).T  # (c, 1 + m)
            inside = kept[(kept >= info.offset) & (kept < info.offset + info.size)]
            rows = inside - info.offset
            errors.add(info.name, forecast[inside], path[rows, 1:], path[rows, 0])
        found.append(errors.total.rel_sum())
    return float(np.nanmedian(found)) if not np.isnan(found).all() else None
