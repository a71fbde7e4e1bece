"""Coverage and power of the loop tier's intervals, by simulation.

Steps to a target are log-normal over seeds. A seed's initial state makes all configurations faster
or slower together, each configuration differs from seed to seed, and what is left differs between
a method and plain training. Runs that are not there at the end of the budget count with the
budget. The spreads are those of the suite ``loop-factors``. The truth is the mean of the estimate
over experiments with new seeds, in which each side chooses its configuration again.

    python benchmarks/loop_coverage.py --experiments 1000

Each line: how far configurations lie apart, seeds of each role, and of three kinds of interval the
share of experiments in which it holds the truth: Student's t at the choices made ("fixed"),
percentiles of draws that choose again, widened for few seeds ("percentile", as up to now), and the
loop tier's own. Then the median of the smallest saving that comparisons say they would have seen,
and how many comparisons whose true saving is that one are called faster: 0.80 is right. Last, how
many of no saving are called faster or slower. The error of a share is its Monte Carlo standard
error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.intervals import Sides, choose, compare, freedom_of, ratio_of, scored
from weightcast.bench.loop.power import smallest_saving
from weightcast.bench.loop.verdicts import FASTER, SLOWER, verdict_of

Doubles = NDArray[np.float64]
#: Log costs of configurations above the best's: two optimizers, four learning rates each.
WORLDS = {
    "apart": (0.4, 0.0, 0.25, 0.5, 0.45, 0.3, 0.35, 0.6),
    "near": (0.25, 0.05, 0.0, 0.12, 0.3, 0.03, 0.01, 0.2),
    "tied": (0.0,) * 8,
}
SEEDS = ((3, 5), (8, 8), (24, 24))
#: Standard deviations of log costs: of a seed, of a configuration at a seed, of a side's own.
SPREADS = (0.035, 0.035, 0.075)
#: Log of the best configuration's cost and of the budget.
CENTRE, BUDGET = float(np.log(450.0)), float(np.log(900.0))


@dataclass(frozen=True)
class Experiment:
    """Costs of a method, of the null row and of plain training, (configurations, seeds)."""

    method: Sides
    null: Sides


def experiment(
    world: str, seeds: tuple[int, int], saving: float, random: np.random.Generator
) -> Experiment:
    """Draw all runs of one comparison; a method saves a share of the steps everywhere."""
    offsets = np.asarray(WORLDS[world])[:, None]
    shape = len(offsets), sum(seeds)
    shared = (
        CENTRE
        + offsets
        + SPREADS[0] * random.normal(size=(1, shape[1]))
        + SPREADS[1] * random.normal(size=shape)
    )
    own = SPREADS[2] * random.normal(size=(3, *shape))
    own[0] += np.log1p(-saving)
    method, null, plain = np.exp(np.minimum(shared + own, BUDGET))
    return Experiment(Sides(method, plain, seeds[0]), Sides(null, plain, seeds[0]))


def estimate(sides: Sides) -> Doubles:
    """Return the seeds' log ratios, each side tuned."""
    validation = sides.validation
    return np.log(scored(sides.method, choose(sides.method, validation), validation)) - np.log(
        scored(sides.plain, choose(sides.plain, validation), validation)
    )


def fixed(sides: Sides) -> tuple[float, float]:
    """Return Student's interval of the mean log ratio, choices taken as given."""
    found, validation = estimate(sides), sides.validation
    parts = found[:validation], found[validation:]
    error = np.sqrt(sum(len(part) * part.var(ddof=1) for part in parts)) / len(found)
    reach = stdtrit(len(found) - 2, 0.975) * error
    return float(found.mean() - reach), float(found.mean() + reach)


def percentile(sides: Sides, random: np.random.Generator, draws: int) -> tuple[float, float]:
    """Return widened percentiles of the mean log ratio over draws of seeds that choose again."""
    seeds, validation = sides.method.shape[1], sides.validation
    found = np.empty(draws)
    for draw in range(draws):
        drawn = np.concatenate(
            [
                random.integers(validation, size=validation),
                random.integers(validation, seeds, size=seeds - validation),
            ]
        )
        found[draw] = estimate(
            Sides(sides.method[:, drawn], sides.plain[:, drawn], validation)
        ).mean()
    freedom = seeds - 2
    tail = float(ndtr(-np.sqrt(seeds / freedom) * stdtrit(freedom, 0.975)))
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


@dataclass
class Found:
    """What experiments of one kind gave: shares, and the median saving."""

    fixed: float
    percentile: float
    own: float
    saving: float
    power: float
    called: float


def simulate(
    world: str,
    seeds: tuple[int, int],
    experiments: int,
    draws: int,
    start: int = 0,
    percentiles: bool = True,
) -> Found:
    """Simulate comparisons of one kind, without a saving and with the one that they would see."""
    random = np.random.default_rng([start, *seeds, sorted(WORLDS).index(world)])
    many = [
        estimate(experiment(world, seeds, 0.0, random).method).mean()
        for _ in range(4 * experiments)
    ]
    truth = float(np.mean(many))
    hits, savings, called = np.zeros(3), [], 0
    for _ in range(experiments):
        drawn = experiment(world, seeds, 0.0, random)
        method, null = _compared(drawn, random, draws)
        ends = [fixed(drawn.method), (np.nan, np.nan)]
        if percentiles:
            ends[1] = percentile(drawn.method, random, draws)
        ends.append((float(np.log(method[0].lower)), float(np.log(method[0].upper))))
        hits += [low <= truth <= high for low, high in ends]
        savings.append(smallest_saving(method[1], null, freedom_of(seeds)))
        called += verdict_of(method[0], null, False, True) in (FASTER, SLOWER)
    saving, faster = float(np.median(savings)), 0
    for _ in range(experiments):
        method, null = _compared(experiment(world, seeds, saving, random), random, draws)
        faster += verdict_of(method[0], null, False, True) == FASTER
    shares = hits / experiments
    return Found(
        float(shares[0]),
        float(shares[1]),
        float(shares[2]),
        saving,
        faster / experiments,
        called / experiments,
    )


def _compared(
    drawn: Experiment, random: np.random.Generator, draws: int
) -> tuple[tuple[Estimate, float], Estimate]:
    found, null = (compare(sides, random, draws) for sides in (drawn.method, drawn.null))
    return (ratio_of(found.tuned, found.seeds), found.tuned.error), ratio_of(null.tuned, null.seeds)


def main() -> None:
    """Print a line a kind of experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    error = float(np.sqrt(0.95 * 0.05 / given.experiments))
    print(
        f"{given.experiments} experiments each; the error of a coverage of 0.95 is {error:.3f}, ",
        end="",
    )
    print(f"of a power of 0.80 {np.sqrt(0.16 / given.experiments):.3f}")
    print("world  seeds    fixed  percentile  loop tier  would see  power  called at no saving")
    for world in WORLDS:
        for seeds in SEEDS:
            found = simulate(world, seeds, given.experiments, given.draws)
            intervals = f"{found.fixed:.3f}  {found.percentile:>10.3f}  {found.own:>9.3f}"
            print(
                f"{world:<5}  {seeds[0]:>2} + {seeds[1]:<2}  {intervals}  "
                f"{100 * found.saving:>7.1f} %  {found.power:.3f}  {found.called:>19.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
