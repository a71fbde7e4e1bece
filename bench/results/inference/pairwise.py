"""Method against method: who wins how many runs, by how much, and who cannot be told apart.

Each pair is compared run by run. Wilcoxon's signed-rank statistic is taken in each data set,
exactly for up to `EXACT` runs without ties, else with the normal approximation for ties. Data
sets are joined by Stouffer's method with equal weights, as they have in a skill: else the set with
the most runs would decide. P-values are two-sided and adjusted by Holm's method over all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.results.inference.order import ranks_and_ties

Doubles = NDArray[np.float64]

LEVEL = 0.05
#: As scipy's ``method="auto"``.
EXACT = 50


@dataclass(frozen=True)
class Pairwise:
    """Comparisons of every method with every other.

    Attributes
    ----------
    methods : list of str
    won : ndarray, shape (methods, methods)
        Share of runs, the mean over data sets, in which the row's method has the lower error; ties
        count half, and so does the diagonal.
    ratio : ndarray, shape (methods, methods)
        The row's error over the column's: the geometric mean over data sets of the median run's.
    p : ndarray, shape (methods, methods)
        Adjusted; 1 on the diagonal.
    """

    methods: list[str]
    won: Doubles
    ratio: Doubles
    p: Doubles

    def band(self, method: str) -> tuple[int, int]:
        """Return the best and the worst rank that a method may have.

        So many methods are clearly better, and so many clearly worse, at 5 %.
        """
        place = self.methods.index(method)
        clear = self.p[place] < LEVEL
        better = int((clear & (self.won[place] < 0.5)).sum())
        worse = int((clear & (self.won[place] > 0.5)).sum())
        return 1 + better, len(self.methods) - worse


def pairwise(methods: Sequence[str], sets: Sequence[Doubles]) -> Pairwise:
    """Compare methods by their errors on runs.

    Parameters
    ----------
    methods : sequence of str
    sets : sequence of ndarray, each (methods, runs)
        Positive errors; a data set each.
    """
    count = len(methods)
    first, second = np.triu_indices(count, 1)
    won, middles, z = (np.zeros(len(first)) for _ in range(3))
    for errors in sets:
        logs = np.log(errors)
        differences = logs[first] - logs[second]
        won += ((differences < 0) + 0.5 * (differences == 0)).mean(axis=1) / len(sets)
        middles += np.median(differences, axis=1) / len(sets)
        z += signed_rank(differences) / np.sqrt(len(sets))
    adjusted = holm(_two_sided(z))
    square = np.full((count, count), 0.5), np.ones((count, count)), np.ones((count, count))
    for table, upper, lower in zip(
        square, (won, np.exp(middles), adjusted), (1 - won, np.exp(-middles), adjusted), strict=True
    ):
        table[first, second], table[second, first] = upper, lower
    return Pairwise(list(methods), *square)


def signed_rank(differences: Doubles) -> Doubles:
    """Wilcoxon's signed-rank statistic as a standard normal: (pairs, runs) → (pairs,).

    Zeros are left out, as Wilcoxon does; where nothing else is there it is 0. An exact p-value is
    told by the normal deviate that has it.
    """
    runs = differences.shape[1]
    told = differences != 0
    n = told.sum(axis=1)
    # Zeros have the lowest ranks of all.
    ranks, alike = ranks_and_ties(np.abs(differences))
    ranks -= (runs - n)[:, None]
    above = np.where(differences > 0, ranks, 0.0).sum(axis=1)
    mean = n * (n + 1) / 4
    tied = np.where(told, alike**2 - 1.0, 0.0).sum(axis=1)
    variance = n * (n + 1) * (2 * n + 1) / 24 - tied / 48
    found = np.zeros(len(differences))
    np.divide(above - mean, np.sqrt(variance), out=found, where=n > 0)
    if runs <= EXACT and len(exact := np.flatnonzero((n == runs) & (tied == 0))):
        sums = np.maximum(above, 2 * mean - above)[exact].round().astype(np.intp)
        found[exact] = np.sign(above - mean)[exact] * _deviates(runs)[sums]
    return found


@lru_cache
def _deviates(n: int) -> Doubles:
    """Return the normal deviate of each sum of n signed ranks, 0 up to their mean."""
    from scipy.special import ndtri

    found: Doubles = -ndtri(np.minimum(0.5, _at_least(n)))
    return found


@lru_cache
def _at_least(n: int) -> Doubles:
    """The chance that n signed ranks sum to s or more if signs are tossed: (n(n + 1)/2 + 1,)."""
    chance = np.zeros(n * (n + 1) // 2 + 1)
    chance[0] = 1.0
    for rank in range(1, n + 1):
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    found: Doubles = chance[::-1].cumsum()[::-1]
    return found


def holm(p: Doubles) -> Doubles:
    """Adjust p-values by Holm's method."""
    order = np.argsort(p, kind="stable")
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def _two_sided(z: Doubles) -> Doubles:
    from scipy.special import ndtr

    p: Doubles = 2 * ndtr(-np.abs(z))
    return p
