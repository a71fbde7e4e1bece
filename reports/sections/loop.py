"""The loop tier: whether jumping pays, against plain training tuned as well."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weightcast.bench.loop.board import (
    LoopBoard,
    beside_others,
    coarse_grids,
    lengths_at_edges,
    untuned_arms,
    uses_text,
)
from weightcast.bench.loop.costs import budget_of
from weightcast.bench.loop.power import saving_text
from weightcast.bench.loop.scores import (
    FASTER,
    SLOWER,
    USES,
    LoopStanding,
    LoopSummary,
    loop_left_out,
)
from weightcast.bench.plan.loop_settings import NO_FORECAST, NULL
from weightcast.datasets import all_datasets
from weightcast.reports.figures import Picture, slug
from weightcast.reports.loop_view import READOUTS, TARGETS, LoopView
from weightcast.reports.numbers import (
    DASH,
    fixed,
    interval,
    number,
    plural,
    seconds,
)
from weightcast.reports.plots.loop_curves import FURTHEST, loop_curves_plot, loss_limits
from weightcast.reports.plots.loop_profile import loop_profile_plot, profile_limit
from weightcast.reports.plots.loop_ratio import Ratio, loop_ratio_plot, ratio_limits
from weightcast.reports.tables import (
    Cell,
    Column,
    Table,
    amount,
    decimal,
    estimated,
    key,
    value,
    words,
)

_POOLED = "all data sets"
_SPOKEN = {"raw": "weights as they are", "average": "moving average of the weights"}


@dataclass(frozen=True)
class LoopPart:
    """One data set's pictures and table, or those over all data sets."""

    title: str
    pictures: list[Picture]
    table: Table


@dataclass(frozen=True)
class LoopSection:
    """What the report says of the loop tier.

    Attributes
    ----------
    takeaway : str
        One sentence.
    notes : list of str
    setting, targets : Table
    parts : list of LoopPart
        Tuned against tuned: all data sets first where there are several.
    others : Table
        The other targets, over all data sets.
    curves, break_even : list
        One entry a data set.
    """

    takeaway: str
    notes: list[str]
    setting: Table
    targets: Table
    parts: list[LoopPart]
    others: Table
    curves: list[tuple[str, list[Picture]]]
    break_even: list[tuple[str, Table]]


def loop_section(loop: LoopView) -> LoopSection:
    """Lay the loop tier out."""
    boards = {readout: loop.board(readout) for readout in READOUTS}
    datasets = boards["raw"].datasets
    parts = [_part(loop, boards, dataset) for dataset in datasets]
    if len(datasets) > 1:
        parts.insert(0, _pooled_part(loop, boards))
    return LoopSection(
        takeaway=takeaway(loop),
        notes=[
            *_unfinished(loop),
            *untuned_arms(boards["raw"].standings),
            *lengths_at_edges(boards["raw"].standings),
            *coarse_grids(loop.rows),
            *beside_others(loop.rows),
        ],
        setting=setting_table(loop),
        targets=targets_table(loop),
        parts=parts,
        others=_others_table(loop),
        curves=[(dataset, _curve_pictures(loop, dataset)) for dataset in datasets],
        break_even=[(dataset, _break_even_table(loop, boards, dataset)) for dataset in datasets],
    )


def takeaway(loop: LoopView) -> str:
    """Say in a sentence which forecasters are at the primary target before tuned plain training."""
    board = loop.board()
    own = [s for s in board.pooled if s.label in loop.forecasters]
    if not own:
        return "In the loop tier nothing can be compared with plain training yet."
    several = len(board.datasets) > 1
    where = f"over {len(board.datasets)} data sets" if several else f"on {board.datasets[0]}"
    ahead = [s for s in own if s.verdict == FASTER]
    behind = sum(s.verdict == SLOWER for s in own)
    refused = sum(s.verdict.startswith("refused") for s in own)
    if ahead:
        best = ahead[0]
        said = (
            f"In the loop, {best.label} takes {fixed(best.ratio.value)} "
            f"{interval(best.ratio)} of the step-equivalents of tuned plain training "
            f"to the hard target {where}{_by_average(loop, best.label)}"
        )
        if others := [s.label for s in ahead[1:]]:
            said += f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} faster too"
    else:
        best = own[0]
        bounds = f" {interval(best.ratio)}".rstrip()
        found = (
            "no forecaster has a verdict"
            if refused == len(own)
            else "no forecaster is shown to be faster than tuned plain training"
        )
        said = (
            f"In the loop, {found} {where}; the lowest ratio is {best.label}'s, "
            f"{fixed(best.ratio.value)}{bounds}"
        )
        savings = [s.smallest_saving for s in own if not math.isnan(s.smallest_saving)]
        if savings and refused < len(own):
            least, most = saving_text(min(savings)), saving_text(max(savings))
            of = least if least == most else f"{least} (of the noisiest {most})"
            said += f"; a saving of {of} or more would have been seen in 80 of 100 cases"
    some = refused if refused < len(own) else 0
    amounts = ((behind, "slower"), (some, "without a verdict"))
    counts = [f"{amount} of {len(own)} {what}" for amount, what in amounts if amount]
    return f"{said} ({', '.join(counts)})." if counts else f"{said}."


def _by_average(loop: LoopView, label: str) -> str:
    """Say what a method that is ahead by raw weights is by their average, which costs no jump."""
    for s in loop.board("average").pooled:
        if s.label == label:
            verdict = s.verdict.partition(":")[0]
            said = f"{fixed(s.ratio.value)} {interval(s.ratio)}".rstrip()
            return f" by raw weights, and {said} by their moving average ({verdict})"
    return " by raw weights"


def setting_table(loop: LoopView) -> Table:
    """Describe what was trained on each data set."""
    known = all_datasets()
    table = Table(
        "The pool that every side is tuned over, as it was run: grids of learning rates grow while "
        "some optimizer's own best lies at their edge.",
        [
            Column("data set", numeric=False),
            Column("runs", "training runs in the results"),
            Column("steps", "optimizer steps of each run"),
            Column("pool", "learning rates by optimizer", numeric=False),
            Column("schedules", numeric=False),
            Column("seeds", "calibration, validation, report"),
            Column("seconds a step", "median, of one run alone"),
            Column("what it is", numeric=False),
        ],
    )
    for dataset in loop.datasets:
        rows = loop.on(dataset)
        pool = []
        for optimizer in sorted({row["optimizer"] for row in rows}):
            rates = sorted({row["pool_rate"] for row in rows if row["optimizer"] == optimizer})
            pool.append(f"{optimizer} {' '.join(f'{rate:g}' for rate in rates)}")
        lengths = sorted({row["length"] for row in rows})
        if len(lengths) > 1:
            pool.append(
                f"forecasters jump {', '.join(f'{one:g}' for one in lengths)} of their way, "
                f"controls have {len(lengths)} times as many rates"
            )
        counts = [
            str(len({row["seed"] for row in rows if row["seed_role"] == role}))
            for role in ("calibration", "validation", "report")
        ]
        took = sorted(row["step_seconds"] for row in rows if row["step_seconds"] is not None)
        step = took[len(took) // 2] if took else None
        what = known[dataset].description if dataset in known else ""
        table.rows.append(
            [
                words(dataset),
                amount(len(rows)),
                amount(budget_of(rows)),
                words("; ".join(pool)),
                words(", ".join(sorted({row["schedule"] for row in rows}))),
                Cell(" + ".join(counts), counts[-1]),
                Cell(seconds(step), key(step)),
                words(what),
            ]
        )
    return table


def targets_table(loop: LoopView) -> Table:
    """Tabulate targets with their levels, and how many calibration runs reach them."""
    table = Table(
        "Targets are what tuned plain training has reached at a share of the budget, on runs that "
        "serve for nothing else. Reached by: of these runs, at every learning rate, those that get "
        "there within the budget.",
        [
            Column("data set", numeric=False),
            Column("target", numeric=False),
            Column("of", numeric=False),
            Column("level"),
            Column("reached by", "calibration runs"),
        ],
    )
    for dataset in loop.datasets:
        targets = loop.targets(dataset)
        for kind_and_name in TARGETS:
            target = targets.get(kind_and_name)
            if target is not None:
                table.rows.append(
                    [
                        words(dataset),
                        words(target.name),
                        words(target.kind.replace("_", " ")),
                        value(target.level),
                        Cell(f"{target.reached} of {target.runs}", key(target.reached)),
                    ]
                )
    return table


def _part(loop: LoopView, boards: dict[str, LoopBoard], dataset: str) -> LoopPart:
    found = {readout: board.on(dataset) for readout, board in boards.items()}
    rows = {readout: [_ratio(s) for s in standings] for readout, standings in found.items()}
    return LoopPart(
        dataset, _ratio_pictures(loop, dataset, rows), _standings_table(loop, dataset, found)
    )


def _pooled_part(loop: LoopView, boards: dict[str, LoopBoard]) -> LoopPart:
    rows = {readout: [_ratio(s) for s in board.pooled] for readout, board in boards.items()}
    table = Table(
        f"Geometric means over {plural(len(boards['raw'].datasets), 'data set')}, hard target of "
        "the train loss. Ratio: step-equivalents over tuned plain training's, with the 95 % "
        "interval.",
        [
            Column("method", numeric=False),
            Column("ratio", "below 1 is faster", best="low"),
            Column("verdict", "against 1 and the null row", numeric=False),
            Column("would see", "the smallest saving that 80 of 100 such comparisons call faster"),
            Column("data sets"),
            Column("missed", "scored runs that never reach the target; below: failed ones"),
        ],
        stacked=True,
    )
    for readout, board in boards.items():
        for s in board.pooled:
            table.rows.append(
                [
                    _method(loop, s.label, readout),
                    estimated(s.ratio),
                    words(s.verdict),
                    _saving(s.smallest_saving),
                    amount(len(s.datasets)),
                    _missed(s.misses, s.runs, s.failures),
                ]
            )
    pictures = _ratio_pictures(loop, _POOLED, rows) + _profile_pictures(loop, boards)
    return LoopPart(_POOLED, pictures, table)


def _profile_pictures(loop: LoopView, boards: dict[str, LoopBoard]) -> list[Picture]:
    """Draw performance profiles, a read-out each, on the same axis."""
    found = {readout: board.profiles for readout, board in boards.items()}
    limit = profile_limit([one for profiles in found.values() for one in profiles])
    count = plural(len(boards["raw"].datasets), "data set")
    return [
        Picture(
            loop_profile_plot(
                slug("loop-profile", readout),
                f"Share of data sets solved within a factor of the fastest, {_SPOKEN[readout]}",
                profiles,
                limit,
                loop.looks,
            ),
            f"Of {count}, the share that a method solves within a factor of the fastest: at least "
            "half of its scored runs reach the target. Plain training is one of the methods.",
            f"performance profile: {_SPOKEN[readout]}",
        )
        for readout, profiles in found.items()
        if profiles
    ]


def _ratio(s: LoopStanding | LoopSummary) -> Ratio:
    return Ratio(s.label, s.ratio, s.verdict)


def _ratio_pictures(loop: LoopView, title: str, rows: dict[str, list[Ratio]]) -> list[Picture]:
    """Draw a read-out each, methods in the same order, on the same axis."""
    limits = ratio_limits([ratio for ratios in rows.values() for ratio in ratios])
    order = [ratio.label for ratio in rows["raw"]]
    pictures = []
    for readout, ratios in rows.items():
        if not ratios:
            continue
        ordered = sorted(ratios, key=lambda r: order.index(r.label) if r.label in order else 1e9)
        null = next((r.found for r in ratios if r.label == NULL and r.found.bounded), None)
        band = (
            f"The band is the null row's interval, {interval(null)}."
            if null
            else "There is no null row with an interval."
        )
        svg = loop_ratio_plot(
            slug("loop-ratio", title, readout),
            f"Step-equivalents over tuned plain training's with 95 % intervals, {title}, "
            f"{_SPOKEN[readout]}",
            ordered,
            null,
            limits,
            loop.looks,
        )
        hollow = (
            " Hollow: no verdict." if any(r.verdict.startswith("refused") for r in ratios) else ""
        )
        pictures.append(
            Picture(
                svg,
                f"Left of 1 is faster. {band}{hollow}",
                f"{title}: {_SPOKEN[readout]}",
            )
        )
    return pictures


def _standings_table(loop: LoopView, dataset: str, found: dict[str, list[LoopStanding]]) -> Table:
    first = next(iter(found["raw"] + found["average"]))
    table = Table(
        f"Hard target of the train loss, {number(first.target.level)}. Ratios are geometric means "
        f"over {plural(first.runs, 'scored run')} with 95 % intervals. Same rate: the usual "
        "comparison of the literature, with plain training at the method's own learning rate. A "
        "run that misses the target counts with what its whole budget cost.",
        [
            Column("method", numeric=False),
            Column(
                "ratio",
                "step-equivalents over tuned plain training's; below 1 is faster",
                best="low",
            ),
            Column("verdict", "against 1 and the null row", numeric=False),
            Column("would see", "the smallest saving that 80 of 100 such comparisons call faster"),
            Column("same rate", "ratio to plain training at the same configuration"),
            Column("steps", "mean step-equivalents to the target; below: tuned plain training's"),
            Column("seconds", "the same in seconds"),
            Column("missed", "scored runs that never reach the target; below: failed ones"),
            Column(
                "harmful jumps",
                "share of jumps after which the train loss was higher; below: jumps taken, where "
                "not all were",
            ),
            Column("chosen", "on the validation seeds; below: by plain training", numeric=False),
            Column("tries", "configurations to choose from; below: plain training's"),
        ],
        stacked=True,
    )
    for readout, standings in found.items():
        for s in standings:
            table.rows.append(
                [
                    _method(loop, s.label, readout),
                    estimated(s.ratio),
                    words(s.verdict),
                    _saving(s.smallest_saving),
                    estimated(s.same_rate),
                    value(s.steps_mean, note=f"plain {number(s.plain_steps_mean)}"),
                    Cell(
                        seconds(s.seconds_mean),
                        key(s.seconds_mean),
                        f"plain {seconds(s.plain_seconds_mean)}",
                    ),
                    _missed(s.misses, s.runs, s.failures),
                    _jumps(s.harmful, s.accepted),
                    words(str(s.configuration), note=f"plain: {s.plain_configuration}"),
                    Cell(
                        str(s.configurations),
                        key(s.configurations),
                        f"plain {s.plain_configurations}",
                    ),
                ]
            )
    return table


def _others_table(loop: LoopView) -> Table:
    table = Table(
        "Every target and read-out, over all data sets that have them: the ratio with its 95 % "
        "interval and the verdict in words.",
        [
            Column("method", numeric=False),
            *(Column(f"{kind.replace('_', ' ')}, {name}") for kind, name in TARGETS),
        ],
        stacked=True,
    )
    for readout in READOUTS:
        found = {
            target: {s.label: s for s in loop.board(readout, *target).pooled} for target in TARGETS
        }
        labels = dict.fromkeys(label for pooled in found.values() for label in pooled)
        for label in labels:
            row = [_method(loop, label, readout)]
            for target in TARGETS:
                s = found[target].get(label)
                if s is None:
                    row.append(Cell(DASH))
                    continue
                said = s.verdict.partition(":")[0]
                row.append(estimated(s.ratio, said=said))
            table.rows.append(row)
    return table


def _curve_pictures(loop: LoopView, dataset: str) -> list[Picture]:
    curves = loop.curves(dataset)
    targets = [
        target for (kind, _), target in loop.targets(dataset).items() if kind == "train_loss"
    ]
    limits = loss_limits(list(curves.values()), targets)
    beside = [curves[label] for label in (NO_FORECAST, NULL) if label in curves]
    chosen = {s.label: s.configuration for s in loop.board().on(dataset)}
    pictures = []
    for label, own in curves.items():
        if label in (NO_FORECAST, NULL):
            continue
        svg = loop_curves_plot(
            slug("loop-curve", dataset, label),
            f"Train loss over step-equivalents on {dataset}: {label} beside tuned plain training",
            own,
            beside,
            targets,
            limits,
            max(map(len, curves)),
            loop.looks,
        )
        caption = f"{chosen[label]}; median and range of {plural(len(own.losses), 'report run')}."
        if own.jumps:
            higher = sum(jump.after > jump.before for jump in own.jumps)
            caption += (
                f" Thin: one run with its {plural(len(own.jumps), 'jump')}, {higher} of them to a "
                "higher loss (▲)."
            )
        pictures.append(Picture(svg, caption, label))
    return pictures


def _break_even_table(loop: LoopView, boards: dict[str, LoopBoard], dataset: str) -> Table:
    table = Table(
        "What fitting costs, in steps of plain training: the training runs that it learns from and "
        "the seconds of the fit. With fit: the ratio once that is shared by so many uses, at one "
        "learning rate known beforehand. Break-even: uses until the saved step-equivalents have "
        "paid for it.",
        [
            Column("method", numeric=False),
            Column("fit", "step-equivalents"),
            Column("saved in one use", "step-equivalents, means over scored runs"),
            Column("ratio without fit"),
            *(Column(f"with fit, {plural(uses, 'use')}") for uses in USES),
            Column("break-even uses"),
        ],
        stacked=True,
    )
    for readout, board in boards.items():
        for s in board.on(dataset):
            if s.label == NULL:
                continue
            saved = s.plain_steps_mean - s.steps_mean
            table.rows.append(
                [
                    _method(loop, s.label, readout),
                    value(s.fit_cost),
                    value(saved, signed=True),
                    decimal(s.ratio.value),
                    *(decimal(s.uses[uses]) for uses in USES),
                    Cell(uses_text(s.break_even), key(s.break_even)),
                ]
            )
    return table


def curves_note() -> str:
    """Say how the curves are drawn."""
    return (
        "Train loss of the weights as they are, over step-equivalents: steps, and what the "
        "forecaster's seconds would have bought in steps, without its fit. Each method stands at "
        "its own chosen configuration. The wide band is the range over report runs; a run that is "
        "no longer finite counts as the highest. Curves are cut where a method has cost "
        f"{FURTHEST:g} times plain training's budget."
    )


def _unfinished(loop: LoopView) -> list[str]:
    """Say what could not be compared, in whole or in part."""
    found = [f"{s.dataset}, {s.label}: {s.left_out}" for s in loop.board().standings if s.left_out]
    return found + loop_left_out(loop.rows)


def _missed(misses: int, runs: int, failures: int) -> Cell:
    failed = f"{failures} failed" if failures else ""
    return Cell(f"{misses} of {runs}", key(misses / runs if runs else None), failed)


def _method(loop: LoopView, label: str, readout: str) -> Cell:
    return words(label, note=readout, colour=loop.looks[label].colour)


def _saving(saving: float) -> Cell:
    return Cell(saving_text(saving), key(saving))


def _jumps(harmful: float, accepted: float) -> Cell:
    taken = f"{100 * accepted:.0f} % taken" if accepted < 1 else ""
    if math.isnan(harmful):
        return Cell(DASH, note=taken)
    return Cell(f"{100 * harmful:.0f} %", key(harmful), taken)
