"""Scores of the loop tier: whether a tuned method is at a target before tuned plain training.

How a level is reached says `weightcast.bench.loop.curves`, how targets are set `targets`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.costs import CostTable, DataSetCosts, budget_of, data_set_costs
from weightcast.bench.loop.curves import KINDS, READOUTS, accepted_share, jumps_of
from weightcast.bench.loop.grid_ends import (
    at_edge,
    grid_ends,
    lengths_at_edge,
    own_grid_ends,
    windows_at_edge,
)
from weightcast.bench.loop.intervals import (
    DRAWS,
    Compared,
    LogRatio,
    compare,
    freedom_of,
    pooled,
    ratio_of,
    scored,
)
from weightcast.bench.loop.pairs import Pair, pair_of
from weightcast.bench.loop.power import smallest_saving
from weightcast.bench.loop.targets import SHARES, calibrated
from weightcast.bench.loop.verdicts import (
    EDGE,
    FAILED,
    FASTER,
    FEW_SEEDS,
    LENGTH_EDGE,
    NO_NULL,
    SAME,
    SLOWER,
    UNREACHED,
    WINDOW_EDGE,
    LoopStanding,
    LoopSummary,
    break_even,
    failed_too_often,
    verdict_of,
)
from weightcast.bench.plan.loop_row import Jump, LoopRow
from weightcast.bench.plan.loop_settings import NO_FORECAST, NULL
from weightcast.datasets.errors import unknown

# Who asks for scores gets with them the words that they are told in.
__all__ = [
    "EDGE",
    "FAILED",
    "FASTER",
    "FEW_SEEDS",
    "LENGTH_EDGE",
    "NO_NULL",
    "SAME",
    "SLOWER",
    "UNREACHED",
    "USES",
    "WINDOW_EDGE",
    "LoopStanding",
    "LoopSummary",
    "edges",
    "loop_left_out",
    "loop_standings",
    "loop_summary",
]

#: Uses over which the costs of fitting are shared.
USES = (1, 10, 100)


def loop_standings(
    rows: Sequence[LoopRow],
    readout: str = "raw",
    kind: str = "train_loss",
    target: str = "hard",
    draws: int = DRAWS,
) -> list[LoopStanding]:
    """Compare every method and control with plain training, on each data set.

    Parameters
    ----------
    rows : sequence of LoopRow
        Of `weightcast.bench.loop.training.run_loop`, any number of data sets and methods. Of a
        folder
        half done, a method is compared on the configurations and seeds that both sides have in
        full; what cannot be compared at all is in `loop_left_out`.
    readout : str
        ``"raw"``, ``"average"``: the moving average's curves, on both sides, its window tuned, or
        ``"tuned"``: each side chooses among both. Read-outs are read as they are.
    kind : str
        ``"train_loss"`` or ``"test_accuracy"``.
    target : str
        ``"hard"`` or ``"easy"``.
    draws : int

    Returns
    -------
    list of LoopStanding
        Lowest ratio first, whose runs failed last; the null row is one, plain training is not.

    Raises
    ------
    InputError
        If there is no such read-out, kind or target.
    """
    return [standing for standing, _ in _standings(rows, readout, kind, target, draws)]


def loop_summary(
    rows: Sequence[LoopRow],
    readout: str = "raw",
    kind: str = "train_loss",
    target: str = "hard",
    draws: int = DRAWS,
) -> list[LoopSummary]:
    """Pool the standings of every method over its data sets; lowest ratio first.

    Parameters are those of `loop_standings`.
    """
    by_label: dict[str, dict[str, tuple[LoopStanding, Compared]]] = {}
    for standing, compared in _standings(rows, readout, kind, target, draws):
        by_label.setdefault(standing.label, {})[standing.dataset] = standing, compared
    nulls = by_label.get(NULL, {})
    summaries = []
    for label, found in by_label.items():
        standings = [standing for standing, _ in found.values()]
        log_ratio, seeds = _pooled([compared for _, compared in found.values()])
        ratio = ratio_of(log_ratio, seeds)
        null = Estimate()
        if found.keys() <= nulls.keys():
            null = ratio_of(*_pooled([nulls[dataset][1] for dataset in found]))
        edge = any(standing.edge for standing in standings)
        length_edge = any(standing.length_edge for standing in standings)
        window_edge = any(standing.window_edge for standing in standings)
        reached = any(s.misses < s.runs or s.plain_misses < s.runs for s in standings)
        failures = sum(standing.failures for standing in standings)
        runs = sum(standing.runs for standing in standings)
        verdict = verdict_of(ratio, null, edge, reached, length_edge, window_edge)
        if failed_too_often(failures, runs):
            verdict = FAILED
        summaries.append(
            LoopSummary(
                label=label,
                readout=readout,
                kind=kind,
                target=target,
                ratio=ratio,
                null=null,
                verdict=verdict,
                smallest_saving=_would_see(verdict, log_ratio, null, seeds),
                edge=edge,
                length_edge=length_edge,
                window_edge=window_edge,
                datasets=tuple(sorted(found)),
                misses=sum(standing.misses for standing in standings),
                failures=failures,
                runs=runs,
            )
        )
    return sorted(summaries, key=lambda one: (one.verdict == FAILED, one.ratio.value, one.label))


def edges(rows: Sequence[LoopRow]) -> set[tuple[str, str, str]]:
    """Return where grids of learning rates end too early.

    With the primary target and both read-outs, the own best of every arm of the pool is looked at,
    for all methods and controls, plain training too, on either role's seeds.

    Returns
    -------
    set of (dataset, optimizer, "low" or "high")
    """
    return {
        (costs.dataset, end.optimizer, end.side)
        for readout in ("raw", "average")
        for costs in _data_sets(rows, readout, "train_loss", "hard")
        for end in own_grid_ends(costs)
    }


def loop_left_out(
    rows: Sequence[LoopRow], kind: str = "train_loss", target: str = "hard"
) -> list[str]:
    """Say in a line each which data sets and methods have no standing yet, and why.

    Parameters
    ----------
    rows : sequence of LoopRow
    kind, target : str
        As in `loop_standings`.
    """
    compared = {costs.dataset: costs for costs in _data_sets(rows, "raw", kind, target)}
    lines = []
    for dataset in _by_data_set(rows):
        if dataset not in compared:
            lines.append(f"{dataset}: no calibration runs that set the target are done")
            continue
        costs = compared[dataset]
        for label, table in sorted(costs.tables.items()):
            if label != NO_FORECAST and pair_of(costs, table) is None:
                lines.append(
                    f"{dataset}, {label}: no configuration is done on both sides with seeds of "
                    "both roles"
                )
    return lines


def _standings(
    rows: Sequence[LoopRow], readout: str, kind: str, target: str, draws: int
) -> list[tuple[LoopStanding, Compared]]:
    found = []
    for costs in _data_sets(rows, readout, kind, target):
        pairs = {}
        for label, table in costs.tables.items():
            pair = None if label == NO_FORECAST else pair_of(costs, table)
            if pair is not None:
                pairs[label] = pair, compare(pair.sides, _random(costs.dataset), draws)
        null = ratio_of(*_pooled([pairs[NULL][1]])) if NULL in pairs else Estimate()
        for label, (pair, compared) in pairs.items():
            found.append((_standing(costs, label, readout, pair, compared, null), compared))
    return sorted(found, key=lambda one: _place(one[0]))


def _place(standing: LoopStanding) -> tuple[bool, float, str, str]:
    """Return what standings are sorted by; whose runs fail stands below all others."""
    failed = standing.verdict == FAILED
    return failed, standing.ratio.value, standing.dataset, standing.label


def _pooled(compared: Sequence[Compared]) -> tuple[LogRatio, list[int]]:
    """Return the mean of data sets' log ratios, and how many seeds each role of each has."""
    seeds = [count for one in compared for count in one.seeds]
    return pooled([one.tuned for one in compared]), seeds


def _would_see(verdict: str, log_ratio: LogRatio, null: Estimate, seeds: Sequence[int]) -> float:
    """Return the smallest saving that a comparison would have seen; NaN where it was refused."""
    if verdict not in (FASTER, SLOWER, SAME):
        return np.nan
    return smallest_saving(log_ratio.error, null, freedom_of(seeds))


def _standing(
    costs: DataSetCosts,
    label: str,
    readout: str,
    pair: Pair,
    compared: Compared,
    null: Estimate,
) -> LoopStanding:
    method, plain, validation = pair.method, pair.plain, pair.validation
    chosen, plain_chosen = compared.choices, compared.plain_choices
    cost = scored(method.cost, chosen, validation)
    plain_cost = scored(plain.cost, plain_chosen, validation)
    fit = scored(np.repeat(method.fit[:, None], len(cost), axis=1), chosen, validation)
    missed = scored(~method.reached, chosen, validation)
    plain_missed = scored(~plain.reached, plain_chosen, validation)
    ratio = ratio_of(compared.tuned, compared.seeds)
    edge = at_edge(method, chosen, validation) or at_edge(plain, plain_chosen, validation)
    length_edge = bool(lengths_at_edge(method, chosen, validation))
    window_edge = bool(
        windows_at_edge(method, chosen, validation)
        or windows_at_edge(plain, plain_chosen, validation)
    )
    reached = not (missed.all() and plain_missed.all())
    jumps = _scored_jumps(method, chosen, validation, len(cost))
    changes = np.asarray(
        [
            jump["after"] - jump["before"]
            for jump in jumps
            if jump["before"] is not None and jump["after"] is not None
        ],
        dtype=np.float64,
    )
    failures = int(scored(method.failed, chosen, validation).sum())
    verdict = verdict_of(ratio, null, edge, reached, length_edge, window_edge)
    if failed_too_often(failures, len(cost)):
        verdict = FAILED
    return LoopStanding(
        dataset=costs.dataset,
        label=label,
        readout=readout,
        target=costs.target,
        ratio=ratio,
        null=null,
        verdict=verdict,
        smallest_saving=_would_see(verdict, compared.tuned, null, compared.seeds),
        edge=edge,
        length_edge=length_edge,
        window_edge=window_edge,
        untuned=(
            *grid_ends(NO_FORECAST, plain, validation),
            *grid_ends(label, method, validation),
        ),
        same_rate=ratio_of(compared.same_rate, compared.seeds),
        uses={
            uses: float(np.exp(np.mean(np.log(cost + fit / uses) - np.log(plain_cost))))
            for uses in USES
        },
        fit_cost=float(fit.mean()),
        break_even=break_even(float(fit.mean()), float(plain_cost.mean() - cost.mean())),
        steps_mean=float(cost.mean()),
        plain_steps_mean=float(plain_cost.mean()),
        seconds_mean=float(scored(method.seconds, chosen, validation).mean()),
        plain_seconds_mean=float(scored(plain.seconds, plain_chosen, validation).mean()),
        misses=int(missed.sum()),
        failures=failures,
        plain_misses=int(plain_missed.sum()),
        runs=len(cost),
        harmful=float((changes > 0).mean()) if len(changes) else np.nan,
        accepted=accepted_share(jumps),
        jump_change=float(np.median(changes)) if len(changes) else np.nan,
        configuration=method.configurations[chosen[0]],
        plain_configuration=plain.configurations[plain_chosen[0]],
        swapped_configuration=method.configurations[chosen[1]],
        plain_swapped_configuration=plain.configurations[plain_chosen[1]],
        configurations=len(method.configurations),
        plain_configurations=len(plain.configurations),
        left_out=pair.left_out,
    )


def _data_sets(
    rows: Sequence[LoopRow], readout: str, kind: str, target: str
) -> Iterator[DataSetCosts]:
    """Take the costs on every data set that has the target."""
    for what, name, choices in (
        ("read-out", readout, READOUTS),
        ("kind of target", kind, KINDS),
        ("target", target, tuple(SHARES)),
    ):
        if name not in choices:
            raise unknown(what, name, choices)
    for dataset, here in _by_data_set(rows).items():
        budget = budget_of(here)
        level = calibrated(here, budget).get((kind, target))
        if level is not None:
            yield data_set_costs(dataset, here, level, readout, budget)


def _by_data_set(rows: Sequence[LoopRow]) -> dict[str, list[LoopRow]]:
    found: dict[str, list[LoopRow]] = {}
    for row in rows:
        found.setdefault(row["dataset"], []).append(row)
    return dict(sorted(found.items()))


def _random(dataset: str) -> np.random.Generator:
    """Return a data set's draws: the same for all its methods, others for other data sets."""
    return np.random.default_rng([123, zlib.crc32(dataset.encode())])


def _scored_jumps(
    table: CostTable, chosen: tuple[int, int], validation: int, seeds: int
) -> list[Jump]:
    """Return the scored runs' jumps."""
    return [
        jump
        for seed in range(seeds)
        for jump in jumps_of(table.rows[chosen[1] if seed < validation else chosen[0], seed])
    ]
