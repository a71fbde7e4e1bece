"""Where grids of learning rates end too early, and lengths.

The pool is tuned where each of its arms is, an optimizer with a schedule: an arm whose own best
learning rate is the last of its grid may have a better one beyond. That holds however another arm
looks beside it, for an arm that is not tuned is no rival, and what is best in a pool of such arms
need not be best in the pool that was meant. So a grid grows by every arm's own best, of every
method and control, on either role's seeds.

Where a grid may grow no further, what a method or plain training has chosen may still be an inner
optimum of another arm. Then the comparison of these choices stands, and with it is said which arm
may not be tuned, and how far it is behind at the end of its grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weightcast.bench.loop.costs import Configuration, CostTable, DataSetCosts
from weightcast.bench.loop.curves import RAW, Doubles
from weightcast.bench.loop.intervals import choose
from weightcast.bench.loop.pairs import complete, cut
from weightcast.bench.loop.targets import final_log_loss


@dataclass(frozen=True)
class GridEnd:
    """An arm of the pool whose own best learning rate, for one method, ends its grid.

    Attributes
    ----------
    label : str
        The method.
    optimizer, schedule : str
        The arm.
    side : str
        ``"low"`` or ``"high"``.
    learning_rate : float
    behind : float
        The arm's step-equivalents there over those of the method's best configuration; inf where
        the arm reaches the target at none of its learning rates.
    """

    label: str
    optimizer: str
    schedule: str
    side: str
    learning_rate: float
    behind: float

    def __str__(self) -> str:
        return f"{self.optimizer}, {self.schedule}, {self.learning_rate:g} of {self.label}"


def grid_ends(label: str, table: CostTable, validation: int) -> list[GridEnd]:
    """Return where an arm's own best, on either role's seeds, ends the grid of its optimizer.

    Of equally good learning rates one inside the grid counts. Where an arm reaches the target with
    none of its runs, its best is that with the lowest train loss in the end.

    Parameters
    ----------
    label : str
        The table's method.
    table : CostTable
        Without holes.
    validation : int
        So many of the seeds are validation's, the first ones.
    """
    grids = grids_of(table.configurations)
    found: dict[tuple[str, str, str], GridEnd] = {}
    for (optimizer, schedule), arm in _arms(table.configurations).items():
        ends = {min(grids[optimizer]): "low", max(grids[optimizer]): "high"}
        for seeds, best in zip(
            _parts(table, validation), choose(table.cost, validation), strict=True
        ):
            reached = bool(table.reached[np.ix_(arm, seeds)].any())
            scores = _log_costs(table, arm, seeds) if reached else _losses(table, arm, seeds)
            rates = {table.configurations[arm[i]].learning_rate for i in _lowest(scores)}
            if not rates or rates - ends.keys():
                continue
            rate = min(rates)
            behind = float(np.exp(scores.min() - _log_costs(table, [best], seeds)[0]))
            end = GridEnd(
                label, optimizer, schedule, ends[rate], rate, behind if reached else np.inf
            )
            known = found.setdefault((optimizer, schedule, end.side), end)
            if end.behind < known.behind:
                found[optimizer, schedule, end.side] = end
    return list(found.values())


def own_grid_ends(costs: DataSetCosts) -> Iterator[GridEnd]:
    """Yield where arms end too early for a method, among all of its own runs that are done."""
    for label, table in costs.tables.items():
        configurations, seeds = complete(np.isfinite(table.cost))
        validation = sum(seed < len(costs.validation) for seed in seeds)
        if 0 < validation < len(seeds):
            own = cut(table, configurations, seeds)
            yield from grid_ends(label, own, validation)


def at_edge(table: CostTable, chosen: tuple[int, int], validation: int) -> bool:
    """Tell whether a choice, on seeds of which some run reaches the target, ends its grid."""
    grids = grids_of(table.configurations)
    for configuration in _that_count(table, chosen, validation):
        grid = grids[configuration.optimizer]
        if configuration.learning_rate in (min(grid), max(grid)):
            return True
    return False


def lengths_at_edge(table: CostTable, chosen: tuple[int, int], validation: int) -> set[float]:
    """Return the chosen lengths that end the grid of lengths; none where there is but one.

    Of a read-out they are horizons, and none is shorter than one snapshot.
    """
    ends = _ends(table, chosen, validation, lambda one: one.horizon or one.length)
    return ends - {1.0} if any(one.horizon for one in table.configurations) else ends


def windows_at_edge(table: CostTable, chosen: tuple[int, int], validation: int) -> set[int]:
    """Return the chosen windows of the average that end the grid of windows.

    None where there is but one. Raw weights among them are the shortest, beyond which is nothing.
    """
    ends = _ends(table, chosen, validation, lambda one: one.window)
    return {int(end) for end in ends} - {RAW}


def _ends(
    table: CostTable,
    chosen: tuple[int, int],
    validation: int,
    what: Callable[[Configuration], float],
) -> set[float]:
    """Return of what was chosen which values end their grid; none where there is but one."""
    grid = {what(one) for one in table.configurations}
    if len(grid) == 1:
        return set()
    counting = {what(one) for one in _that_count(table, chosen, validation)}
    return counting & {min(grid), max(grid)}


def grids_of(configurations: Sequence[Configuration]) -> dict[str, set[float]]:
    """Return the learning rates of every optimizer."""
    found: dict[str, set[float]] = {}
    for one in configurations:
        found.setdefault(one.optimizer, set()).add(one.learning_rate)
    return found


def _arms(configurations: Sequence[Configuration]) -> dict[tuple[str, str], list[int]]:
    """Return the configurations of every arm."""
    found: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(configurations):
        found.setdefault((one.optimizer, one.schedule), []).append(index)
    return found


def _parts(table: CostTable, validation: int) -> tuple[range, range]:
    """Return each role's seeds."""
    return range(validation), range(validation, table.cost.shape[1])


def _log_costs(table: CostTable, configurations: list[int], seeds: range) -> Doubles:
    found: Doubles = np.log(table.cost[np.ix_(configurations, seeds)]).mean(axis=1)
    return found


def _losses(table: CostTable, configurations: list[int], seeds: range) -> Doubles:
    return np.array(
        [
            np.mean(
                [
                    final_log_loss(table.rows[i, seed], table.configurations[i].window)
                    for seed in seeds
                ]
            )
            for i in configurations
        ]
    )


def _lowest(scores: Doubles) -> list[int]:
    """Return which scores are lowest, all that are equal; none where none is finite."""
    rounded = np.round(scores, 12)
    return [int(i) for i in np.flatnonzero(np.isfinite(scores) & (rounded == rounded.min()))]


def _that_count(
    table: CostTable, chosen: tuple[int, int], validation: int
) -> Iterator[Configuration]:
    """Yield what was chosen on seeds of which some run reaches the target."""
    for index, seeds in zip(chosen, _parts(table, validation), strict=True):
        if table.reached[:, list(seeds)].any():
            yield table.configurations[index]
