"""Performance profiles: on which share of data sets a method is nearly as fast as the fastest.

Dolan and Moré (2002), "Benchmarking optimization software with performance profiles",
Mathematical Programming 91:201. A method's factor on a data set is its step-equivalents over those
of the fastest method there, plain training among them; infinite where it does not solve the set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from weightcast.bench.loop.verdicts import FAILED, LoopStanding
from weightcast.bench.plan.loop_settings import NO_FORECAST, NULL

#: Factors that tables tell shares at.
FACTORS = (1.0, 1.1, 1.5, 2.0)


@dataclass(frozen=True)
class Profile:
    """One method over the data sets.

    Attributes
    ----------
    label : str
        Of a method, or ``"no-forecast"``.
    factors : tuple of float
        One a data set, ascending; infinite where it is not solved.
    """

    label: str
    factors: tuple[float, ...]

    def within(self, factor: float) -> float:
        """Return the share of data sets that are solved within a factor of the fastest.

        Examples
        --------
        >>> Profile("a", (1.0, 1.2, math.inf)).within(1.2)
        0.6666666666666666
        """
        return sum(own <= factor * (1 + 1e-12) for own in self.factors) / len(self.factors)


def profiles(standings: Sequence[LoopStanding]) -> list[Profile]:
    """Return the profiles of all methods and of plain training, the highest at 1 first.

    A data set is solved by a method of which at least half of the scored runs reach the target, and
    that has not failed too often; a method without a standing there has not solved it. The null row
    is left out: it is plain training, and the better of two would look like a method.

    Parameters
    ----------
    standings : sequence of LoopStanding
        Of one read-out, kind and target.
    """
    costs: dict[str, dict[str, float]] = {}
    for one in standings:
        here = costs.setdefault(one.dataset, {NO_FORECAST: math.inf})
        if 2 * one.plain_misses <= one.runs:
            here[NO_FORECAST] = 1.0
        if one.label != NULL:
            solved = 2 * one.misses <= one.runs and one.verdict != FAILED
            here[one.label] = one.ratio.value if solved else math.inf
    labels = sorted({label for here in costs.values() for label in here})
    fastest = {dataset: min(here.values()) for dataset, here in costs.items()}
    found = [
        Profile(
            label, tuple(sorted(_factor(here.get(label), fastest[d]) for d, here in costs.items()))
        )
        for label in labels
    ]
    return sorted(found, key=lambda one: ([-one.within(factor) for factor in FACTORS], one.label))


def _factor(cost: float | None, fastest: float) -> float:
    return math.inf if cost is None or math.isinf(cost) else cost / fastest
