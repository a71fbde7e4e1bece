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
    won, logs, z = (np.zeros(len(first)) for _ in range(3))
    for errors in sets:
        differences = np.log(errors[first]) - np.log(errors[second])
        won += ((differences < 0) + 0.5 * (differences == 0)).mean(axis=1) / len(sets)
        logs += np.median(differences, axis=1) / len(sets)
        z += signed_rank(differences) / np.sqrt(len(sets))
    adjusted = holm(_two_sided(z))
    square = np.full((count, count), 0.5), np.ones((count, count)), np.ones((count, count))
    for table, upper, lower in zip(
        square, (won, np.exp(logs), adjusted), (1 - won, np.exp(-logs), adjusted), strict=True
    ):
        table[first, second], table[second, first] = upper, lower
    return Pairwise(list(methods), *square)


def signed_rank(differences: Doubles) -> Doubles:
    """Wilcoxon's signed-rank statistic as a standard normal: (pairs, runs) → (pairs,).

    Zeros are left out, as Wilcoxon does; where nothing else is there it is 0. An exact p-value is
    told by the normal deviate that has it.
    """
    from scipy.stats import norm, rankdata

    found = np.zeros(len(differences))
    for place, row in enumerate(differences):
        told = row[row != 0]
        n = len(told)
        if n == 0:
            continue
        ranks = rankdata(np.abs(told))
        above = float(ranks[told > 0].sum())
        mean = n * (n + 1) / 4
        ties = np.unique(ranks, return_counts=True)[1].astype(float)
        if n <= EXACT and n == len(row) and (ties == 1).all():
            one_sided = min(0.5, _at_least(n)[round(max(above, 2 * mean - above))])
            found[place] = np.sign(above - mean) * norm.isf(one_sided)
            continue
        variance = n * (n + 1) * (2 * n + 1) / 24 - (ties**3 - ties).sum() / 48
        found[place] = (above - mean) / np.sqrt(variance)
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
    from scipy.stats import norm

    p: Doubles = 2 * norm.sf(np.abs(z))
    return p
