"""A method beside plain training: cut to the runs that both have, and what each chose from.

A folder half done has holes. Only configurations and seeds with every run on both sides count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.loop.costs import Configuration, CostTable, DataSetCosts
from weightcast.bench.loop.intervals import Sides, choose
from weightcast.bench.plan.loop_settings import NO_FORECAST


@dataclass(frozen=True)
class Pair:
    """A method and plain training where both are done.

    Attributes
    ----------
    method, plain : CostTable
    configurations : tuple of Configuration
        Of the tables' rows.
    validation : int
        So many of the seeds are validation's, the first ones.
    left_out : str
        What is not done on both sides; empty where all is.
    """

    method: CostTable
    plain: CostTable
    configurations: tuple[Configuration, ...]
    validation: int
    left_out: str

    @property
    def sides(self) -> Sides:
        """Costs alone."""
        return Sides(self.method.cost, self.plain.cost, self.validation)


def pair_of(costs: DataSetCosts, method: CostTable) -> Pair | None:
    """Cut a method and plain training to what both have in full; None where that is nothing."""
    plain = costs.tables.get(NO_FORECAST)
    if plain is None:
        return None
    present = np.isfinite(method.cost) & np.isfinite(plain.cost)
    configurations, seeds = complete(present)
    validation = sum(seed < len(costs.validation) for seed in seeds)
    if not 0 < validation < len(seeds):
        return None
    left_out = ""
    if (len(configurations), len(seeds)) != present.shape:
        left_out = (
            f"{len(configurations)} of {present.shape[0]} configurations and {len(seeds)} of "
            f"{present.shape[1]} seeds are done on both sides"
        )
    return Pair(
        _cut(method, configurations, seeds),
        _cut(plain, configurations, seeds),
        tuple(costs.configurations[i] for i in configurations),
        validation,
        left_out,
    )


def _cut(table: CostTable, configurations: list[int], seeds: list[int]) -> CostTable:
    where = np.ix_(configurations, seeds)
    return CostTable(
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


def at_edge(pair: Pair, table: CostTable, chosen: tuple[int, int]) -> bool:
    """Tell whether a choice, on seeds of which some run reaches the target, ends its grid."""
    grids = grids_of(pair.configurations)
    for index, reached in zip(chosen, _reached(table, pair.validation), strict=True):
        configuration = pair.configurations[index]
        grid = grids[configuration.optimizer]
        if reached and configuration.learning_rate in (min(grid), max(grid)):
            return True
    return False


def own_choices(costs: DataSetCosts, table: CostTable) -> Iterator[Configuration]:
    """Yield what a method chooses among all of its own runs that are done."""
    configurations, seeds = complete(np.isfinite(table.cost))
    validation = sum(seed < len(costs.validation) for seed in seeds)
    if not 0 < validation < len(seeds):
        return
    own = _cut(table, configurations, seeds)
    chosen = choose(own.cost, validation)
    for index, reached in zip(chosen, _reached(own, validation), strict=True):
        if reached:
            yield costs.configurations[configurations[index]]


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
