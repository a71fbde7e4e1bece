"""A method beside plain training: cut to the runs that both have, and what each chose from.

A folder half done has holes. Only what of the pool, and which seeds, have every run on both sides
count: at each learning rate of the pool a forecaster has its lengths, a control as many rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.loop.costs import CostTable, DataSetCosts
from weightcast.bench.loop.intervals import Choices, Sides
from weightcast.bench.plan.loop_settings import NO_FORECAST


@dataclass(frozen=True)
class Pair:
    """A method and plain training where both are done.

    Attributes
    ----------
    method, plain : CostTable
        Each with its own configurations.
    likes : ndarray of int, shape (configurations of the method,)
        Plain training's configuration at the same optimizer, schedule and learning rate, and by the
        same average; for a forecast that is read out raw weights, or the shortest average.
    validation : int
        So many of the seeds are validation's, the first ones.
    left_out : str
        What is not done on both sides; empty where all is.
    """

    method: CostTable
    plain: CostTable
    likes: Choices
    validation: int
    left_out: str

    @property
    def sides(self) -> Sides:
        """Costs alone."""
        return Sides(self.method.cost, self.plain.cost, self.validation, self.likes)


def pair_of(costs: DataSetCosts, method: CostTable) -> Pair | None:
    """Cut a method and plain training to what both have in full; None where that is nothing."""
    plain = costs.tables.get(NO_FORECAST)
    if plain is None:
        return None
    pool = sorted({one.of_the_pool for table in (method, plain) for one in table.configurations})
    present = np.stack(
        [_done(plain, one) & (_done(method, one) | _is_plains_alone(method, one)) for one in pool]
    )
    present &= np.array([[_has_likes(method, plain, one)] for one in pool])
    kept, seeds = complete(present)
    validation = sum(seed < len(costs.validation) for seed in seeds)
    if not 0 < validation < len(seeds):
        return None
    left_out = ""
    if (len(kept), len(seeds)) != present.shape:
        left_out = (
            f"{len(kept)} of {present.shape[0]} configurations and {len(seeds)} of "
            f"{present.shape[1]} seeds are done on both sides"
        )
    of = {pool[i] for i in kept}
    method, plain = (cut(table, _at(table, of), seeds) for table in (method, plain))
    return Pair(method, plain, _likes(method, plain), validation, left_out)


def _likes(method: CostTable, plain: CostTable) -> Choices:
    index = {(one.trained_as, one.window): i for i, one in enumerate(plain.configurations)}
    shortest = min(one.window for one in plain.configurations)
    return np.array(
        [
            index.get((one.trained_as, one.window), index[one.trained_as, shortest])
            for one in method.configurations
        ],
        dtype=np.int64,
    )


def _at(table: CostTable, pool: set[tuple[str, str, float]]) -> list[int]:
    """Return which of a table's configurations are tries at some of the pool's."""
    return [i for i, one in enumerate(table.configurations) if one.of_the_pool in pool]


def _done(table: CostTable, of: tuple[str, str, float]) -> NDArray[np.bool_]:
    """Tell of every seed whether all tries at one of the pool's are there, and there are any."""
    tries = np.isfinite(table.cost[_at(table, {of})])
    found: NDArray[np.bool_] = np.asarray(tries.all(axis=0))
    return found & (len(tries) > 0)


def _is_plains_alone(method: CostTable, of: tuple[str, str, float]) -> bool:
    """Tell whether a read-out stands in for a schedule, and is not read out of its runs."""
    reads = any(one.horizon for one in method.configurations)
    return reads and of[1] not in {one.schedule for one in method.configurations}


def _has_likes(method: CostTable, plain: CostTable, of: tuple[str, str, float]) -> bool:
    """Tell whether plain training has the learning rates that a method has at one of the pool's."""
    rates, plain_rates = (
        {table.configurations[i].trained_as for i in _at(table, {of})} for table in (method, plain)
    )
    return rates <= plain_rates


def cut(table: CostTable, configurations: list[int], seeds: list[int]) -> CostTable:
    """Return a table of some configurations and seeds, numbered anew."""
    where = np.ix_(configurations, seeds)
    return CostTable(
        tuple(table.configurations[i] for i in configurations),
        table.cost[where],
        table.seconds[where],
        table.reached[where],
        table.failed[where],
        table.fit[configurations],
        {
            (i, j): table.rows[c, s]
            for i, c in enumerate(configurations)
            for j, s in enumerate(seeds)
        },
    )


def complete(present: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return configurations and seeds of which every run is there.

    Whichever configuration or seed lacks the largest share of its runs is left out first, a
    configuration before a seed, until nothing is missing.
    """
    configurations, seeds = (list(range(count)) for count in present.shape)
    while configurations and seeds:
        here = present[np.ix_(configurations, seeds)]
        if here.all():
            return configurations, seeds
        by_configuration, by_seed = here.mean(axis=1), here.mean(axis=0)
        if by_configuration.min() <= by_seed.min():
            del configurations[int(by_configuration.argmin())]
        else:
            del seeds[int(by_seed.argmin())]
    return [], []
