"""The loop tier's leaderboard: standings on each data set and pooled, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.costs import Configuration
from weightcast.bench.loop.grid_ends import GridEnd
from weightcast.bench.loop.power import saving_text
from weightcast.bench.loop.profile import FACTORS, Profile, profiles
from weightcast.bench.loop.scores import (
    EDGE,
    FAILED,
    FEW_SEEDS,
    LENGTH_EDGE,
    NO_NULL,
    UNREACHED,
    USES,
    WINDOW_EDGE,
    LoopStanding,
    LoopSummary,
    loop_left_out,
    loop_standings,
    loop_summary,
)
from weightcast.bench.loop.targets import Target
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.loop_settings import NULL
from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: What stands in the column ``dataset`` of rows over all data sets.
POOLED = "pooled"
#: Refusals as they fit in a table.
SHORT = {
    EDGE: "refused: edge",
    LENGTH_EDGE: "refused: length edge",
    WINDOW_EDGE: "refused: window edge",
    FAILED: "refused: failed",
    NO_NULL: "refused: no null row",
    UNREACHED: "refused: not reached",
    FEW_SEEDS: "refused: few seeds",
}
#: Learning rates this near to each other, or nearer, leave tuned training near its optimum.
FINE = 1.3
_DASH = "—"


@dataclass(frozen=True)
class LoopBoard:
    """Every method against tuned plain training, by one read-out and one target.

    Attributes
    ----------
    readout, kind, target : str
        As in `weightcast.bench.loop.scores.loop_standings`.
    standings : list of LoopStanding
        Lowest ratio first, all data sets'.
    pooled : list of LoopSummary
        The same over the data sets of each method.
    notes : list of str
        What a reader must know.
    """

    readout: str
    kind: str
    target: str
    standings: list[LoopStanding]
    pooled: list[LoopSummary]
    notes: list[str]

    @property
    def datasets(self) -> list[str]:
        """The data sets with standings, in order."""
        return sorted({standing.dataset for standing in self.standings})

    @property
    def profiles(self) -> list[Profile]:
        """Every method's performance profile over the data sets, plain training's too."""
        return profiles(self.standings)

    def on(self, dataset: str) -> list[LoopStanding]:
        """Return a data set's standings, lowest ratio first."""
        return [standing for standing in self.standings if standing.dataset == dataset]


def loop_board(
    rows: Sequence[LoopRow], *, readout: str = "raw", kind: str = "train_loss", target: str = "hard"
) -> LoopBoard:
    """Rank a folder's runs of the loop tier.

    Parameters
    ----------
    rows : sequence of LoopRow
        As in `weightcast.bench.results.tables.Results.loops`.
    readout, kind, target : str
        As in `weightcast.bench.loop.scores.loop_standings`.

    Raises
    ------
    InputError
        If there are no runs, or no such read-out, kind or target.
    """
    if not rows:
        raise InputError(
            "there are no runs of the loop tier here; make some with: "
            "weightcast run --suite loop-quick --out DIR"
        )
    standings = loop_standings(rows, readout, kind, target)
    pooled = loop_summary(rows, readout, kind, target)
    notes = _notes(standings) + loop_left_out(rows, kind, target)
    notes += untuned_arms(standings) + lengths_at_edges(standings)
    notes += coarse_grids(rows) + beside_others(rows)
    return LoopBoard(readout, kind, target, standings, pooled, notes)


def target_line(dataset: str, target: Target) -> str:
    """Say what a target is, and how many calibration runs reach it."""
    side = "at or below" if target.kind == "train_loss" else "at or above"
    return (
        f"{dataset}: the {target.name} target is a {target.kind.replace('_', ' ')} {side} "
        f"{target.level:.4g}, which {target.reached} of {target.runs} calibration runs reach"
    )


def terminal_tables(board: LoopBoard) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return a table a data set, then the pooled one where there are several, with titles."""
    what = f"{board.kind.replace('_', ' ')}, {board.target} target, {board.readout} read-out"
    tables = [
        (
            f"loop tier on {dataset}: {what}; step-equivalents over tuned plain training's",
            [_terminal_row(standing) for standing in board.on(dataset)],
        )
        for dataset in board.datasets
    ]
    if len(board.datasets) > 1:
        title = f"loop tier over {len(board.datasets)} data sets: {what}"
        tables.append((title, [_pooled_terminal_row(summary) for summary in board.pooled]))
        title = f"performance profile over {len(board.datasets)} data sets: share solved within a "
        title += "factor of the fastest"
        tables.append((title, [_profile_row(profile) for profile in board.profiles]))
    return tables


def board_records(board: LoopBoard) -> list[dict[str, Any]]:
    """Return everything of a board, a dictionary a method and data set, then the pooled ones."""
    shared = {"readout": board.readout, "metric": board.kind, "target": board.target}
    found = [
        {"dataset": standing.dataset} | shared | _standing_record(standing)
        for standing in board.standings
    ]
    found.sort(key=lambda record: str(record["dataset"]))
    shares = {profile.label: _shares(profile) for profile in board.profiles}
    return found + [
        {"dataset": POOLED}
        | shared
        | {
            "method": summary.label,
            **summary.ratio.columns("ratio"),
            **summary.null.columns("null_ratio"),
            "verdict": summary.verdict,
            "smallest_saving": summary.smallest_saving,
            "edge": summary.edge,
            "length_edge": summary.length_edge,
            "window_edge": summary.window_edge,
            "untuned": "; ".join(
                f"{s.dataset}: {_untuned(s)}"
                for s in board.standings
                if s.label == summary.label and s.untuned
            ),
            "misses": summary.misses,
            "failures": summary.failures,
            "runs": summary.runs,
            "datasets": ",".join(summary.datasets),
            **shares.get(summary.label, {}),
        }
        for summary in board.pooled
    ]


def board_table(board: LoopBoard) -> pd.DataFrame:
    """Return `board_records` as the table that ``--csv`` writes."""
    import pandas as pd

    return pd.DataFrame(board_records(board))


def uses_text(uses: float) -> str:
    """Write break-even uses: a whole number, rounded up, or never.

    Examples
    --------
    >>> uses_text(190.2), uses_text(0.0), uses_text(math.inf), uses_text(math.nan)
    ('191', '0', 'never', '—')
    """
    if math.isnan(uses):
        return _DASH
    return "never" if math.isinf(uses) else f"{math.ceil(uses):,}"


def _standing_record(s: LoopStanding) -> dict[str, Any]:
    return {
        "method": s.label,
        **s.ratio.columns("ratio"),
        **s.null.columns("null_ratio"),
        "verdict": s.verdict,
        "smallest_saving": s.smallest_saving,
        "edge": s.edge,
        "length_edge": s.length_edge,
        "window_edge": s.window_edge,
        "untuned": _untuned(s),
        **s.same_rate.columns("same_rate"),
        **{f"ratio_with_fit_{uses}_uses": s.uses[uses] for uses in USES},
        "fit_step_equivalents": s.fit_cost,
        "break_even_uses": s.break_even,
        "step_equivalents": s.steps_mean,
        "plain_step_equivalents": s.plain_steps_mean,
        "seconds": s.seconds_mean,
        "plain_seconds": s.plain_seconds_mean,
        "misses": s.misses,
        "failures": s.failures,
        "plain_misses": s.plain_misses,
        "runs": s.runs,
        "harmful_jumps": s.harmful,
        "accepted_jumps": s.accepted,
        "jump_loss_change": s.jump_change,
        **_configuration("", s.configuration),
        **_configuration("plain_", s.plain_configuration),
        **_configuration("swapped_", s.swapped_configuration),
        **_configuration("plain_swapped_", s.plain_swapped_configuration),
        **_beside_the_pool("", s.configuration),
        **_beside_the_pool("swapped_", s.swapped_configuration),
        "plain_window": s.plain_configuration.window,
        "plain_swapped_window": s.plain_swapped_configuration.window,
        "configurations": s.configurations,
        "plain_configurations": s.plain_configurations,
        "target_level": s.target.level,
        "target_reached": s.target.reached,
        "target_runs": s.target.runs,
        "left_out": s.left_out,
    }


def _configuration(prefix: str, chosen: Configuration) -> dict[str, Any]:
    return {
        f"{prefix}optimizer": chosen.optimizer,
        f"{prefix}schedule": chosen.schedule,
        f"{prefix}learning_rate": chosen.learning_rate,
    }


def _beside_the_pool(prefix: str, chosen: Configuration) -> dict[str, Any]:
    names = ("length", "horizon", "momentum", "window")
    return {f"{prefix}{name}": getattr(chosen, name) for name in names}


def _terminal_row(s: LoopStanding) -> dict[str, Any]:
    return {
        "method": s.label,
        "ratio": f"{s.ratio.value:.2f}",
        "95 %": _interval(s.ratio),
        "verdict": SHORT.get(s.verdict, s.verdict),
        "would see": saving_text(s.smallest_saving),
        "same rate": f"{s.same_rate.value:.2f}",
        "with fit, 1 use": f"{s.uses[1]:,.2f}",
        "break-even": uses_text(s.break_even),
        "steps": f"{s.steps_mean:,.0f}",
        "missed": f"{s.misses} of {s.runs}",
    }


def _pooled_terminal_row(s: LoopSummary) -> dict[str, Any]:
    return {
        "method": s.label,
        "ratio": f"{s.ratio.value:.2f}",
        "95 %": _interval(s.ratio),
        "verdict": SHORT.get(s.verdict, s.verdict),
        "would see": saving_text(s.smallest_saving),
        "missed": f"{s.misses} of {s.runs}",
        "failed": s.failures,
        "data sets": len(s.datasets),
    }


def _profile_row(profile: Profile) -> dict[str, Any]:
    shares = {f"within {factor:g}": f"{profile.within(factor):.2f}" for factor in FACTORS}
    return {"method": profile.label} | shares


def _shares(profile: Profile) -> dict[str, float]:
    return {f"solved_within_{factor:g}": profile.within(factor) for factor in FACTORS}


def _notes(standings: Sequence[LoopStanding]) -> list[str]:
    notes = []
    for dataset, target in sorted({(s.dataset, s.target) for s in standings}):
        notes.append(target_line(dataset, target))
    for s in sorted(standings, key=lambda s: s.dataset):
        if s.label == NULL:
            notes.append(
                f"{s.dataset}: the null row, plain training with other batches, has "
                f"{s.ratio.value:.2f} {_interval(s.ratio)}"
            )
    for s in standings:
        if s.left_out:
            notes.append(f"{s.dataset}, {s.label}: {s.left_out}")
    for verdict in sorted({s.verdict for s in standings} & set(SHORT)):
        notes.append(f"{SHORT[verdict]}: {verdict.partition(': ')[2]}")
    return notes


def untuned_arms(standings: Sequence[LoopStanding]) -> list[str]:
    """Say of which optimizers the best learning rate may lie outside the grid, and for whom."""
    found: dict[tuple[str, str, str, str], dict[str, GridEnd]] = {}
    for s in sorted(standings, key=lambda s: s.dataset):
        for end in s.untuned:
            arm = s.dataset, end.optimizer, end.schedule, end.side
            found.setdefault(arm, {})[end.label] = end
    return [
        f"{dataset}: {optimizer} with the schedule {schedule} may not be tuned: its own best "
        f"learning rate is the {'lowest' if side == 'low' else 'highest'} tried for "
        + ", ".join(_behind(end) for end in ends.values())
        for (dataset, optimizer, schedule, side), ends in found.items()
    ]


def _behind(end: GridEnd) -> str:
    """Say how an arm does at the end of its grid."""
    if math.isinf(end.behind):
        return f"{end.label} ({end.learning_rate:g}; no rate reaches the target)"
    if end.behind == 1:
        return f"{end.label} ({end.learning_rate:g}, its choice)"
    return f"{end.label} ({end.learning_rate:g}, {end.behind:.2f} times the steps of its choice)"


def _untuned(s: LoopStanding) -> str:
    return "; ".join(map(str, s.untuned))


def lengths_at_edges(standings: Sequence[LoopStanding]) -> list[str]:
    """Say where a method's best length, or horizon, is the shortest or longest tried."""
    return [
        f"{s.dataset}, {s.label}: its best {_what_is_tuned(s)}, "
        f"{' or '.join(f'{length:g}' for length in sorted(_chosen_lengths(s)))}, ends the "
        f"{_what_is_tuned(s)}s that were tried, and another beyond may be better"
        for s in sorted(standings, key=lambda s: s.dataset)
        if s.length_edge
    ]


def _chosen_lengths(s: LoopStanding) -> set[float]:
    both = s.configuration, s.swapped_configuration
    return {one.horizon or one.length for one in both}


def _what_is_tuned(s: LoopStanding) -> str:
    return "horizon" if s.configuration.horizon else "length"


def coarse_grids(rows: Sequence[LoopRow]) -> list[str]:
    """Say where learning rates stand so far apart that tuning itself misses the optimum."""
    grids: dict[tuple[str, str, str], set[float]] = {}
    for row in rows:
        own = row["dataset"], row["optimizer"], row["method"]
        grids.setdefault(own, set()).add(float(row["learning_rate"]))
    coarse: dict[str, float] = {}
    for (dataset, *_), grid in sorted(grids.items()):
        widest = max((b / a for a, b in pairwise(sorted(grid))), default=1.0)
        if widest > FINE:
            coarse[dataset] = max(widest, coarse.get(dataset, 1.0))
    return [
        f"{dataset}: learning rates are a factor of {widest:.2g} apart, so that gains of up to "
        "about a tenth may be the grid's and not a method's; the suite loop has finer grids"
        for dataset, widest in coarse.items()
    ]


def beside_others(rows: Sequence[LoopRow]) -> list[str]:
    """Say how many workers shared the machine while seconds were taken; nothing where one did."""
    most = max(row["jobs"] or 1 for row in rows)
    if most == 1:
        return []
    return [
        f"seconds were taken with up to {most} workers side by side, which slows some steps and "
        "some jumps more than others; run with --timing to take them one at a time"
    ]


def _interval(found: Estimate) -> str:
    return f"[{found.lower:.2f}, {found.upper:.2f}]" if found.bounded else _DASH
