"""Tuned against tuned: choosing configurations on some seeds and scoring them on others, redrawn.

The configuration with the lowest mean log cost over the validation seeds is scored on the report
seeds, and the other way round; both sides choose for themselves. All seeds' paired log ratios are
averaged. For intervals, seeds are drawn anew within each role and configurations chosen again in
every draw, so that the luck of a choice is in the interval.

Percentile intervals of so few seeds are too narrow: draws vary (n − 1)/n as much as samples, and a
t distribution has longer tails than the normal one. With 3 + 5 seeds, 14 % of methods that are
noise would lie outside. The tails are therefore cut where percentiles of a normal bootstrap would
give t's interval (the expanded percentile interval of Hesterberg 2015, The American Statistician
69:371).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.curves import Doubles

DRAWS = 2000
#: Seeds beyond one a role that an interval needs; draws of 2 + 2 seeds have too few values.
FEWEST_FREEDOM = 4
Choices = NDArray[np.int64]


@dataclass(frozen=True)
class Sides:
    """Costs of a method and of plain training, at the same configurations and seeds.

    Attributes
    ----------
    method, plain : ndarray, shape (configurations, seeds)
        Step-equivalents; no NaN.
    validation : int
        So many of the seeds are validation's, the first ones; the others are report's.
    """

    method: Doubles
    plain: Doubles
    validation: int


@dataclass(frozen=True)
class Compared:
    """What a comparison found: log ratios, first as they are, then in every draw.

    Attributes
    ----------
    tuned : ndarray, shape (1 + draws,)
        Method at its choice over plain at its own.
    same_rate : ndarray, shape (1 + draws,)
        Method at its choice over plain at the same configuration.
    choices, plain_choices : tuple of int
        The configuration chosen on validation seeds, and the one chosen on report seeds.
    seeds : tuple of int
        How many of validation and of report.
    """

    tuned: Doubles
    same_rate: Doubles
    choices: tuple[int, int]
    plain_choices: tuple[int, int]
    seeds: tuple[int, int]


def compare(sides: Sides, random: np.random.Generator, draws: int = DRAWS) -> Compared:
    """Compare a method with plain training, each tuned.

    Parameters
    ----------
    sides : Sides
        With at least one seed of each role.
    random : numpy.random.Generator
    draws : int
    """
    seeds = sides.method.shape[1]
    parts = [slice(0, sides.validation), slice(sides.validation, seeds)]
    # Each draw's share of every seed, shape (1 + draws, seeds of a role); the first is the data.
    shares = [_shares(part.stop - part.start, random, draws) for part in parts]
    logs, plain_logs = np.log(sides.method), np.log(sides.plain)
    means, plain_means = (
        [share @ side[:, part].T for share, part in zip(shares, parts, strict=True)]
        for side in (logs, plain_logs)
    )
    chosen, plain_chosen = _choices(means), _choices(plain_means)
    tuned, same = np.zeros(draws + 1), np.zeros(draws + 1)
    for role, part in enumerate(parts):
        picked, plain_picked = chosen[1 - role], plain_chosen[1 - role]
        score = _at(means[role], picked)
        weight = (part.stop - part.start) / seeds
        tuned += weight * (score - _at(plain_means[role], plain_picked))
        same += weight * (score - _at(plain_means[role], picked))
    return Compared(
        tuned,
        same,
        (int(chosen[0][0]), int(chosen[1][0])),
        (int(plain_chosen[0][0]), int(plain_chosen[1][0])),
        (sides.validation, seeds - sides.validation),
    )


def choose(costs: Doubles, validation: int) -> tuple[int, int]:
    """Return the configurations of lowest mean log cost on validation and on report seeds."""
    logs = np.log(costs)
    first, second = logs[:, :validation].mean(axis=1), logs[:, validation:].mean(axis=1)
    return int(_lowest(first)), int(_lowest(second))


def scored(table: NDArray[np.generic], choices: tuple[int, int], validation: int) -> Doubles:
    """Return a table's values at what was chosen on the other role's seeds, one a seed."""
    on_validation, on_report = choices
    parts = table[on_report, :validation], table[on_validation, validation:]
    return np.concatenate(parts).astype(np.float64)


def ratio_of(log_ratios: Doubles, seeds: Sequence[int]) -> Estimate:
    """Return a ratio with the interval that draws of its log give it; none where seeds are too few.

    Parameters
    ----------
    log_ratios : ndarray, shape (1 + draws,)
        First as it is.
    seeds : sequence of int
        How many there are in each group that is drawn apart.
    """
    value = float(np.exp(log_ratios[0]))
    freedom = sum(seeds) - len(seeds)
    if min(seeds) < 2 or freedom < FEWEST_FREEDOM:
        return Estimate(value)
    from scipy.special import ndtr, stdtrit

    widened = np.sqrt(sum(seeds) / freedom) * stdtrit(freedom, 0.975)
    tail = float(ndtr(-widened))
    low, high = np.exp(np.quantile(log_ratios[1:], [tail, 1 - tail]))
    return Estimate(value, float(low), float(high))


def _shares(count: int, random: np.random.Generator, draws: int) -> Doubles:
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws)
    shares: Doubles = np.concatenate([np.ones((1, count)), drawn]) / count
    return shares


def _choices(means: Sequence[Doubles]) -> list[Choices]:
    return [_lowest(mean) for mean in means]


def _lowest(means: Doubles) -> Choices:
    # Rounded, so that of equal configurations the first is taken on every machine.
    found: Choices = np.round(means, 12).argmin(axis=-1)
    return found


def _at(means: Doubles, picked: Choices) -> Doubles:
    found: Doubles = np.take_along_axis(means, picked[:, None], axis=1)[:, 0]
    return found
