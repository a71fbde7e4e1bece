"""Ranks, of many rows at once."""

from __future__ import annotations

import numpy as np

from weightcast.bench.results.inference.errors import Doubles


def average_ranks(values: Doubles) -> Doubles:
    """Rank numbers along the last axis from 1, ties sharing the mean of their ranks.

    SciPy's ``rankdata(values, axis=-1)``, without the second that importing its statistics takes.

    Examples
    --------
    >>> average_ranks(np.array([[30.0, 10.0, 20.0], [5.0, 7.0, 5.0]]))
    array([[3. , 1. , 2. ],
           [1.5, 3. , 1.5]])
    """
    return ranks_and_ties(values)[0]


def ranks_and_ties(values: Doubles) -> tuple[Doubles, Doubles]:
    """Return average ranks along the last axis, and how many share each.

    Examples
    --------
    >>> ranks_and_ties(np.array([5.0, 7.0, 5.0]))[1]
    array([2., 1., 2.])
    """
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    starts = np.ones(values.shape, dtype=bool)
    np.not_equal(ordered[..., 1:], ordered[..., :-1], out=starts[..., 1:])
    ends = np.ones(values.shape, dtype=bool)
    ends[..., :-1] = starts[..., 1:]
    # The places of the first of those that tie, and of the last.
    place = np.arange(values.shape[-1])
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    last = np.where(ends, place, len(place))[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    ranks, alike = np.empty(values.shape), np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    np.put_along_axis(alike, order, last - first + 1.0, axis=-1)
    return ranks, alike
