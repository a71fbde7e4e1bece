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
from weightcast.bench.results.inference.redraws import DRAWS, Redraw, redraws

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
    ascending, steps = values[order], np.diff(values[order])
    found = np.empty(len(weights))
    size = max(1, _AT_A_TIME // weights.shape[1])
    for begin in range(0, len(weights), size):
        part = slice(begin, begin + size)
        so_far = weights[part].T[order].astype(np.float64, copy=False)
        np.cumsum(so_far, axis=0, out=so_far)
        lower, upper = so_far[-1] / 4, so_far[-1] * 3 / 4
        np.clip(so_far, lower, upper, out=so_far)
        # The sum of values times the weight that each has inside, summed by parts.
        inside = upper * ascending[-1] - lower * ascending[0] - steps @ so_far[:-1]
        found[part] = inside / (upper - lower)
    return found


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
    weights: dict[tuple[tuple[int, ...], ...], Doubles] = {}
    found = np.empty((1 + DRAWS, len(ratios)))
    for place, own in enumerate(ratios):
        shapes = tuple(ratio.shape for ratio in own)
        if shapes not in weights:  # methods with as many fits share theirs
            weights[shapes] = np.concatenate(list(map(_weights, shapes, draws))).T
        values = np.concatenate([ratio.ravel() for ratio in own])
        found[:, place] = interquartile_mean(values, weights[shapes])
    return found


def _weights(shape: tuple[int, ...], draw: Redraw) -> Doubles:
    """Return what each cell of a data set weighs, as it is and redrawn: (cells, 1 + draws)."""
    contexts, runs, repeats = shape
    counts = np.concatenate([np.ones((1, runs, repeats)), draw.counts(repeats)])
    of_context = counts.reshape(len(counts), -1).T / (runs * repeats)
    return np.tile(of_context, (contexts, 1))
