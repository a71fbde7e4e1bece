"""Tuned against tuned: choosing configurations on some seeds and scoring them on others, redrawn.

The configuration with the lowest mean log cost over the validation seeds is scored on the report
seeds, and the other way round; both sides choose for themselves. All seeds' paired log ratios are
averaged.

How far such a ratio would be off if all seeds were drawn again and all choices made again is taken
from draws of seeds within each role, with choices made in every draw. The draws' own variance V is
not it: where several configurations are about as good, draws change between them, and their means
over the seeds at hand differ by noise that is in V already. So much of V is counted twice, and
percentiles of the draws hold the truth in 99 to 100 of 100 cases. Let x be the seeds' log ratios
at what one draw chose. The variance of the mean of x over seeds, averaged over draws, is the noise
N of any choice; half of the same for the difference of two draws' x is the part D that comes with
changing between choices. A draw of n seeds varies (n - 1)/n as much as a sample, so that

    error² = max(N, V + N · roles/seeds - D)

and the interval is Student's t. `benchmarks/loop_coverage.py` simulates its coverage.
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
    """Costs of a method and of plain training, each at its own configurations, at the same seeds.

    Attributes
    ----------
    method, plain : ndarray, shape (configurations, seeds)
        Step-equivalents; no NaN.
    validation : int
        So many of the seeds are validation's, the first ones; the others are report's.
    likes : ndarray of int, shape (configurations of the method,), optional
        Plain training's configuration that differs in the jumps alone; the one with the same index
        by default.
    """

    method: Doubles
    plain: Doubles
    validation: int
    likes: Choices | None = None


@dataclass(frozen=True)
class LogRatio:
    """A mean log ratio over seeds.

    Attributes
    ----------
    value : float
    error : float
        Its standard error, choices made again included; NaN where a role has one seed.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes
    ----------
    tuned : LogRatio
        Method at its choice over plain at its own.
    same_rate : LogRatio
        Method at its choice over plain at the configuration that differs in the jumps alone.
    choices, plain_choices : tuple of int
        The configuration chosen on validation seeds, and the one chosen on report seeds.
    seeds : tuple of int
        How many of validation and of report.
    """

    tuned: LogRatio
    same_rate: LogRatio
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
    parts = slice(0, sides.validation), slice(sides.validation, seeds)
    # Each draw's share of every seed, shape (1 + draws, seeds of a role); the first is the data.
    shares = [_shares(part.stop - part.start, random, draws) for part in parts]
    logs, plain_logs = np.log(sides.method), np.log(sides.plain)
    chosen, plain_chosen = (
        [_lowest(share @ side[:, part].T) for share, part in zip(shares, parts, strict=True)]
        for side in (logs, plain_logs)
    )
    likes = np.arange(len(logs)) if sides.likes is None else sides.likes
    # Every seed's log ratio at what each draw chose, shape (1 + draws, seeds).
    tuned, same = np.empty((draws + 1, seeds)), np.empty((draws + 1, seeds))
    for role, part in enumerate(parts):
        score = logs[chosen[1 - role], part]
        tuned[:, part] = score - plain_logs[plain_chosen[1 - role], part]
        same[:, part] = score - plain_logs[likes[chosen[1 - role]], part]
    return Compared(
        _log_ratio(tuned, shares),
        _log_ratio(same, shares),
        (int(chosen[0][0]), int(chosen[1][0])),
        (int(plain_chosen[0][0]), int(plain_chosen[1][0])),
        (sides.validation, seeds - sides.validation),
    )


def pooled(compared: Sequence[LogRatio]) -> LogRatio:
    """Return the mean of independent log ratios."""
    errors = [one.error for one in compared]
    return LogRatio(
        float(np.mean([one.value for one in compared])),
        float(np.sqrt(np.sum(np.square(errors))) / len(errors)),
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


def freedom_of(seeds: Sequence[int]) -> int:
    """Return the degrees of freedom of seeds in groups; 0 where they are too few to tell.

    Examples
    --------
    >>> freedom_of([3, 5]), freedom_of([2, 2]), freedom_of([1, 9])
    (6, 0, 0)
    """
    freedom = sum(seeds) - len(seeds)
    return 0 if min(seeds) < 2 or freedom < FEWEST_FREEDOM else freedom


def ratio_of(log_ratio: LogRatio, seeds: Sequence[int]) -> Estimate:
    """Return a ratio with its 95 % interval; none where seeds are too few.

    Parameters
    ----------
    log_ratio : LogRatio
    seeds : sequence of int
        How many there are in each group that is drawn apart.
    """
    value, freedom = float(np.exp(log_ratio.value)), freedom_of(seeds)
    if not freedom:
        return Estimate(value)
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 0.975)) * log_ratio.error
    return Estimate(
        value, float(np.exp(log_ratio.value - reach)), float(np.exp(log_ratio.value + reach))
    )


def _log_ratio(at_choices: Doubles, shares: Sequence[Doubles]) -> LogRatio:
    """Return the mean of the data's log ratios, the first, with its error.

    Parameters
    ----------
    at_choices : ndarray, shape (1 + draws, seeds)
        Each seed's log ratio at what a draw chose.
    shares : sequence of ndarray, shape (1 + draws, seeds of a role)
    """
    counts = [share.shape[1] for share in shares]
    seeds, value = sum(counts), float(at_choices[0].mean())
    if min(counts) < 2:
        return LogRatio(value, np.nan)
    weights = np.concatenate(
        [share * (count / seeds) for share, count in zip(shares, counts, strict=True)], axis=1
    )
    draws = at_choices[1:]
    noise = float(_mean_variance(draws, counts).mean())
    changes = float(_mean_variance(draws - np.roll(draws, 1, axis=0), counts).mean()) / 2
    drawn = float((draws * weights[1:]).sum(axis=1).var())
    return LogRatio(
        value, float(np.sqrt(max(noise, drawn + noise * len(counts) / seeds - changes)))
    )


def _mean_variance(values: Doubles, counts: Sequence[int]) -> Doubles:
    """Return the variance of the mean over seeds of each row, roles apart."""
    parts = np.split(values, np.cumsum(counts)[:-1], axis=1)
    found: Doubles = sum(
        count * part.var(axis=1, ddof=1) for count, part in zip(counts, parts, strict=True)
    ) / np.square(sum(counts))
    return found


def _shares(count: int, random: np.random.Generator, draws: int) -> Doubles:
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws)
    shares: Doubles = np.concatenate([np.ones((1, count)), drawn]) / count
    return shares


def _lowest(means: Doubles) -> Choices:
    # Rounded, so that of equal configurations the first is taken on every machine.
    found: Choices = np.round(means, 12).argmin(axis=-1)
    return found
