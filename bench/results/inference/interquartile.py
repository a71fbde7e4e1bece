"""The interquartile mean: what the middle half of all runs says.

A median looks at one run of a task, and a mean over tasks at the worst of them; between the two
stands the mean of all runs without the quarter that came out best and the quarter that came out
worst. Its source is Agarwal et al. (2021), Deep reinforcement learning at the edge of the
statistical precipice, NeurIPS, whose package rliable takes it of all runs of all tasks alike. Here
a cell may weigh more than another, so that tasks weigh alike however many runs they have; where all
weigh alike and a quarter of them is a whole number, it is SciPy's ``trim_mean(..., 0.25)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weightcast.bench.results.inference.errors import Doubles, SetErrors
from weightcast.bench.results.inference.redraws import DRAWS, redraws

# Cells of redrawn weights that are added up at a time.
_AT_A_TIME = 200_000


def interquartile_mean(values: Doubles, weights: Doubles) -> Doubles:
    """Average the middle half of the weight; a value at its edge counts with the part inside.

    Parameters
    ----------
    values : ndarray, shape (cells,)
    weights : ndarray, shape (draws, cells)
        At least 0; of each draw some above.

    Returns
    -------
    ndarray, shape (draws,)

    Examples
    --------
    >>> interquartile_mean(np.array([9.0, 1.0, 2.0, 5.0]), np.ones((1, 4)))
    array([3.5])
    """
    order = np.argsort(values)
    pieces = max(1, weights.size // _AT_A_TIME)
    return np.concatenate(
        [_mean(values[order], part[:, order]) for part in np.array_split(weights, pieces)]
    )


def _mean(values: Doubles, weights: Doubles) -> Doubles:
    """Average over ascending values."""
    so_far = np.cumsum(weights, axis=1, dtype=np.float64)
    lower, upper = so_far[:, -1:] / 4, so_far[:, -1:] * 3 / 4
    inside = np.diff(np.clip(so_far, lower, upper), axis=1, prepend=lower)
    mean: Doubles = inside @ values / (upper - lower)[:, 0]
    return mean


def middle_ratios(ratios: Sequence[Sequence[Doubles]], sets: Sequence[SetErrors]) -> Doubles:
    """Take each method's interquartile mean, as it is and redrawn.

    Parameters
    ----------
    ratios : sequence of sequence of ndarray
        A method each, a data set each: error over the baseline's, (contexts, runs, repeats).
    sets : sequence of SetErrors
        What is redrawn.

    Returns
    -------
    ndarray, shape (1 + draws, methods)
        The first row is as it is; the others are from the draws of `redraws`.
    """
    draws = [draw for _, draw in redraws(sets)]
    found = np.empty((1 + DRAWS, len(ratios)))
    for place, own in enumerate(ratios):
        weights = []
        for ratio, draw in zip(own, draws, strict=True):
            contexts, runs, repeats = ratio.shape
            counts = np.concatenate([np.ones((1, runs, repeats)), draw.counts(repeats)])
            weight = np.repeat(counts[:, None], contexts, axis=1) / (runs * repeats)
            weights.append(weight.reshape(len(counts), -1))
        values = np.concatenate([ratio.ravel() for ratio in own])
        found[:, place] = interquartile_mean(values, np.concatenate(weights, axis=1))
    return found
