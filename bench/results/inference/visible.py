"""The power of a ranking: which difference from a method would have been told, had it been there.

A difference is told by the rule of `pairwise`: signed ranks in each data set, joined, adjusted by
Holm's method over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.results.inference.pairwise import LEVEL, Pairwise, signed_rank

Doubles = NDArray[np.float64]

#: How often a difference of the size told would have been told.
POWER = 0.8
#: Others are the nearest in the ranking, at most so many: what they cost grows with them.
OTHERS = 8
_DRAWS = 100
_STEPS = 12
# The logarithm of the largest difference that is tried.
_MOST = 20.0


def smallest_difference(
    pairs: Pairwise, sets: Sequence[Doubles], method: str, others: Sequence[str]
) -> float | None:
    """Return by what share an error must be above a method's to be told in 80 of 100 cases.

    The median over the others. Of each the differences to the method keep their scatter over runs
    and data sets, are moved to lie around the size that is tried, and are redrawn; how many
    comparisons are told beside it, which Holm's method goes by, counts as it was found.

    Parameters
    ----------
    pairs : Pairwise
    sets : sequence of ndarray, each (methods, runs)
        The errors that ``pairs`` compares, a data set each.
    method : str
    others : sequence of str
        The nearest first.

    Returns
    -------
    float, optional
        Infinite where no difference would have been told: runs are too few for so many pairs. None
        where no other scatters around the method.
    """
    place = pairs.methods.index(method)
    rows = [pairs.methods.index(other) for other in others if other in pairs.methods]
    found = [np.log(errors[rows]) - np.log(errors[place]) for errors in sets]
    scatter = np.sum([np.ptp(differences, axis=1) for differences in found], axis=0)
    kept = np.flatnonzero(scatter > 0)[:OTHERS]
    if not len(kept):
        return None
    rng = np.random.default_rng(0)
    middles = [_middle(differences[kept]) for differences in found]
    # Where data sets differ in who is better, that stays: only the whole is moved.
    whole = np.mean(middles, axis=0)
    drawn = [_redrawn(differences[kept] - whole, rng) for differences in found]
    needed = _needed(pairs)
    low, high = np.zeros(len(kept)), np.full(len(kept), _MOST)
    never = _told(drawn, high, needed) < POWER
    for _ in range(_STEPS):
        # Small differences are what matters: steps are even in their logarithms' scale.
        middle = np.expm1((np.log1p(low) + np.log1p(high)) / 2)
        enough = _told(drawn, middle, needed) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    sizes = np.sort(np.where(never, math.inf, np.expm1(high)))
    return float(sizes[len(sizes) // 2])


def _needed(pairs: Pairwise) -> float:
    """Return the deviate from which on one more comparison is told, beside those that are."""
    from scipy.special import ndtri

    upper = np.triu_indices(len(pairs.methods), 1)
    beside = min(int((pairs.p[upper] < LEVEL).sum()), len(upper[0]) - 1)
    return float(-ndtri(LEVEL / (len(upper[0]) - beside) / 2))


def _middle(differences: Doubles) -> Doubles:
    """Return what no signed rank tells differences from: (others, 1)."""
    first, second = np.triu_indices(differences.shape[1])
    walsh = (differences[:, first] + differences[:, second]) / 2
    return np.asarray(np.median(walsh, axis=1, keepdims=True))


def _redrawn(differences: Doubles, rng: np.random.Generator) -> Doubles:
    """Redraw runs: (others, draws, runs)."""
    runs = differences.shape[1]
    redrawn = differences[:, rng.integers(0, runs, (_DRAWS, runs))]
    # A run that is drawn twice is no tie: new runs would not have any.
    scale = 1e-6 * np.ptp(differences, axis=1)[:, None, None]
    return np.asarray(redrawn + scale * rng.standard_normal(redrawn.shape))


def _told(drawn: Sequence[Doubles], sizes: Doubles, needed: float) -> Doubles:
    """Return the share of draws in which each other is told to be so much worse."""
    z = np.zeros(drawn[0].shape[:2])
    for one in drawn:
        moved = one + sizes[:, None, None]
        z += signed_rank(moved.reshape(-1, one.shape[2])).reshape(z.shape) / math.sqrt(len(drawn))
    told: Doubles = (z > needed).mean(axis=1)
    return told
