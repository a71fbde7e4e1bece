"""The report's first lines: what was asked, and the answer in a sentence a tier."""

from __future__ import annotations

import math

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import listed, spoken
from weightcast.bench.results.inference.pairwise import LEVEL
from weightcast.bench.results.inference.ranking import Standing, run_errors
from weightcast.bench.results.inference.visible import smallest_difference
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.numbers import count, fixed, interval, plural
from weightcast.reports.sections.loop import takeaway
from weightcast.reports.view import Ranked, View

#: More names than this are counted.
_NAMED = 4


def asked(view: View) -> str:
    """Say what was run, of what and from when on."""
    said, cells, loops = [], view.cells, view.results.loops
    if len(cells):
        runs = len(cells[["dataset", "run"]].drop_duplicates())
        contexts = sorted({int(context) for context in cells["context"]})
        after = " or ".join(map(str, contexts))
        sets = list(dict.fromkeys(cells["dataset"]))
        these = f" ({listed(sets)})" if len(sets) <= _NAMED else ""
        said.append(
            f"{plural(len(view.method_names), 'method')} forecast the weights of "
            f"{plural(runs, 'training run')} of {plural(len(sets), 'data set')}{these} "
            f"from what {after} snapshots after the start show{_how_far(view)}; none was fitted on "
            "a run that it is tested on."
        )
    if loops:
        named = {(str(row["method"]), str(row["params"])) for row in loops}
        said.append(
            f"In the loop {plural(len(loops), 'training run')} with and without "
            f"{plural(len(named), 'method')} {'were' if len(loops) > 1 else 'was'} made."
        )
    return " ".join(said)


def _how_far(view: View) -> str:
    """Say up to how many snapshots ahead; nothing where no curve was kept."""
    horizons = sorted({runs.shape[1] for runs in view.results.curves.values()})
    if not horizons:
        return ""
    between = " or " if len(horizons) == 2 else " to "
    ahead = between.join(map(str, dict.fromkeys((horizons[0], horizons[-1]))))
    return f", up to {ahead} snapshots ahead"


def answers(view: View) -> list[str]:
    """Answer in a sentence a tier that was run, with horizons, uncertainty and power."""
    said = []
    if not view.results.cells.empty:
        weights, function = view.ranked, view.rank(tier="function")
        said.append(_weights(view, weights))
        if function.board is not None:
            said.append(_function(view, function.board, weights))
    if view.loop is not None:
        said.append(takeaway(view.loop))
    return said


def _weights(view: View, ranked: Ranked) -> str:
    board = ranked.board
    if board is None:
        return f"Nothing is ranked in the weights tier: {ranked.reason}."
    where = f"In weights, over all horizons, on {_sets(board)}, "
    return f"{where}{_answer(view, board)}."


def _function(view: View, board: Leaderboard, weights: Ranked) -> str:
    at = listed([spoken(label) for label in board.horizons])
    where = f"In function, by the train loss over the horizons {at}, on {_sets(board)}, "
    said = f"{where}{_answer(view, board)}"
    nearest = _first(view, weights.board) if weights.board else None
    own = _first(view, board)
    fate = next(
        (s for s in board.ranking.standings if nearest and s.method == nearest.method), None
    )
    if fate is not None and own is not None and fate.method != own.method:
        said += f"; {fate.method}, nearest in weights, has {_number(fate.skill)}"
    return f"{said}."


def _sets(board: Leaderboard) -> str:
    runs = len(board.cells[["dataset", "run"]].drop_duplicates())
    return f"{listed(board.datasets)} ({plural(runs, 'run')})"


def _first(view: View, board: Leaderboard) -> Standing | None:
    """Return the first that is a forecaster."""
    for s in board.ranking.standings:
        if s.method not in view.results.references:
            return s
    return None


def _answer(view: View, board: Leaderboard) -> str:
    leader, first = board.ranking.standings[0], _first(view, board)
    if first is None:
        return "no forecaster is ranked"
    if first.method == BASELINE:
        said = f"no method does better than repeating the last observed weights ({BASELINE})"
        return said + _apart(board, first) + _not_ranked(board)
    who = "leads" if first is leader else "leads the forecasters"
    said = f"{first.method} {who} with a skill of {_number(first.skill)}"
    said += _horizons(board, first.method)
    if first is not leader:
        said += f", behind the reference {leader.method} with {_number(leader.skill)}"
    said += _worse(board, first.method)
    if first.skill.lower <= 0 < first.skill.upper:
        said += f", not clearly better than {BASELINE}"
    return said + _apart(board, first) + _not_ranked(board)


def _number(skill: Estimate) -> str:
    return f"{fixed(skill.value, signed=True)} {interval(skill, signed=True)}".rstrip()


def _horizons(board: Leaderboard, method: str) -> str:
    """Say a method's skills at single horizons, for one number hides how they fall."""
    told = board.at_horizons.get(method, [])
    said = [
        f"{fixed(one.value, signed=True)} at {spoken(label)}"
        for label, one in zip(board.horizons, told, strict=False)
        if one.known
    ]
    return f" ({', '.join(said)})" if said else ""


def _worse(board: Leaderboard, method: str) -> str:
    """Say on how many tasks a method is worse than the last value, which one number hides."""
    errors, base = board.medians.loc[method], board.medians.loc[BASELINE]
    worse = int((errors > base).sum())
    if not worse:
        return ""
    what = plural(len(errors), "data set" if len(board.datasets) == len(errors) else "task")
    return f", and worse than {BASELINE} on {worse} of {what}"


def _apart(board: Leaderboard, first: Standing) -> str:
    """Say who cannot be told from the first, and what difference would have been seen."""
    pairs, others = board.pairwise, [s for s in board.ranking.standings if s is not first]
    if first.method not in pairs.methods:
        return ""
    place = pairs.methods.index(first.method)
    like = {m for m, p in zip(pairs.methods, pairs.p[place], strict=True) if p >= LEVEL}
    alike = [s.method for s in others if s.method in like]
    said = ""
    if alike:
        named = alike if len(alike) <= _NAMED else [f"{count(len(alike))} others"]
        said = f", not clearly apart from {listed(named)}"
    seen = smallest_seen(board, first)
    if seen is not None and math.isinf(seen):
        said += f"; with so few runs no difference from {first.method} would have been told"
    elif seen is not None:
        said += (
            f"; an error {_percent(seen)} above that of {first.method} would have been told from "
            "it in 80 of 100 such benchmarks"
        )
    return said


def smallest_seen(board: Leaderboard, first: Standing) -> float | None:
    """Return by what share an error must be above the first forecaster's to be told, mostly.

    By the rule that says who is not clearly apart: `smallest_difference`, of those that follow.
    """
    order = [s.method for s in board.ranking.standings]
    after = order[order.index(first.method) + 1 :]
    kept = board.errors.only(board.pairwise.methods)
    _, sets = run_errors(kept.methods, kept.sets, board.ranking.baseline)
    return smallest_difference(board.pairwise, sets, first.method, after)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _not_ranked(board: Leaderboard) -> str:
    """Name the methods that are not ranked."""
    spoken_of = [f"{u.method} ({u.spoken})" for u in board.ranking.unranked]
    if not spoken_of:
        return ""
    if len(spoken_of) > _NAMED:
        return f". Not ranked: {count(len(spoken_of))} methods"
    return f". Not ranked: {', '.join(spoken_of)}"
