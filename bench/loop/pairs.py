"""A method beside plain training: cut to the runs that both have, and what each chose from.

A folder half done has holes. Only what of the pool, and which seeds, have every run on both sides
count: at each learning rate of the pool a forecaster has its lengths, a control as many rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.loop.costs import Configuration, CostTable, DataSetCosts
from weightcast.bench.loop.intervals import Choices, Sides, choose
from weightcast.bench.plan.loop_settings import NO_FORECAST


@dataclass(frozen=True)
class Pair:
    """A method and plain training where both are done.

    Attributes
    ----------
    method, plain : CostTable
        Each with its own configurations.
    likes : ndarray of int, shape (configurations of the method,)
        Plain training's configuration at the same optimizer, schedule and learning rate.
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
    present = np.stack([_done(method, one) & _done(plain, one) for one in pool])
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
    method, plain = (_cut(table, _at(table, of), seeds) for table in (method, plain))
    index = {one.trained_as: i for i, one in enumerate(plain.configurations)}
    likes = np.array([index[one.trained_as] for one in method.configurations], dtype=np.int64)
    return Pair(method, plain, likes, validation, left_out)


def _at(table: CostTable, pool: set[tuple[str, str, float]]) -> list[int]:
    """Return which of a table's configurations are tries at some of the pool's."""
    return [i for i, one in enumerate(table.configurations) if one.of_the_pool in pool]


def _done(table: CostTable, of: tuple[str, str, float]) -> NDArray[np.bool_]:
    """Tell of every seed whether all tries at one of the pool's are there, and there are any."""
    tries = np.isfinite(table.cost[_at(table, {of})])
    found: NDArray[np.bool_] = np.asarray(tries.all(axis=0))
    return found & (len(tries) > 0)


def _has_likes(method: CostTable, plain: CostTable, of: tuple[str, str, float]) -> bool:
    """Tell whether plain training has the learning rates that a method has at one of the pool's."""
    rates, plain_rates = (
        {table.configurations[i].trained_as for i in _at(table, {of})} for table in (method, plain)
    )
    return rates <= plain_rates


def _cut(table: CostTable, configurations: list[int], seeds: list[int]) -> CostTable:
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


def grids_of(configurations: Sequence[Configuration]) -> dict[str, set[float]]:
    """Return the learning rates of every optimizer."""
    found: dict[str, set[float]] = {}
    for one in configurations:
        found.setdefault(one.optimizer, set()).add(one.learning_rate)
    return found


def at_edge(table: CostTable, chosen: tuple[int, int], validation: int) -> bool:
    """Tell whether a choice, on seeds of which some run reaches the target, ends its grid."""
    grids = grids_of(table.configurations)
    for configuration in _that_count(table, chosen, validation):
        grid = grids[configuration.optimizer]
        if configuration.learning_rate in (min(grid), max(grid)):
            return True
    return False


def lengths_at_edge(table: CostTable, chosen: tuple[int, int], validation: int) -> set[float]:
    """Return the chosen lengths that end the grid of lengths; none where there is but one."""
    grid = {one.length for one in table.configurations}
    if len(grid) == 1:
        return set()
    counting = {one.length for one in _that_count(table, chosen, validation)}
    return counting & {min(grid), max(grid)}


def own_choices(costs: DataSetCosts, table: CostTable) -> Iterator[Configuration]:
    """Yield what a method chooses among all of its own runs that are done."""
    configurations, seeds = complete(np.isfinite(table.cost))
    validation = sum(seed < len(costs.validation) for seed in seeds)
    if not 0 < validation < len(seeds):
        return
    own = _cut(table, configurations, seeds)
    yield from _that_count(own, choose(own.cost, validation), validation)


def _that_count(
    table: CostTable, chosen: tuple[int, int], validation: int
) -> Iterator[Configuration]:
    """Yield what was chosen on seeds of which some run reaches the target."""
    for index, reached in zip(chosen, _reached(table, validation), strict=True):
        if reached:
            yield table.configurations[index]


def _reached(table: CostTable, validation: int) -> tuple[bool, bool]:
    """Tell of each role's seeds whether any run reaches the target."""
    return bool(table.reached[:, :validation].any()), bool(table.reached[:, validation:].any())


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
