"""The report's first sentence, computed from its rankings."""

from __future__ import annotations

from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import listed, spoken
from weightcast.bench.results.inference.charging import Unranked
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.view import Ranked


def verdict(weights: Ranked, function: Ranked) -> str:
    """Say which method leads each tier, whether it is the same, and who failed too often.

    Parameters
    ----------
    weights, function : Ranked
        The two tiers' headline rankings.
    """
    return f"{_leaders(weights, function)}{_not_ranked(weights, function)}"


def _not_ranked(*tiers: Ranked) -> str:
    """Name the methods that are not ranked in a tier because their cells failed."""
    failed: dict[str, Unranked] = {}
    for tier in tiers:
        for one in tier.board.ranking.unranked if tier.board else ():
            failed.setdefault(one.method, one)
    if not failed:
        return ""
    spoken = [f"{u.method} ({u.spoken})" for u in failed.values()]
    return f" Not ranked: {', '.join(spoken)}."


def _leaders(weights: Ranked, function: Ranked) -> str:
    if weights.board is None:
        return f"Nothing is ranked in the weights tier: {weights.reason}."
    first = weights.board.ranking.standings[0]
    where = f"In weights, over all horizons, on {listed(weights.board.datasets)}, "
    if first.method == BASELINE:
        sentence = (
            f"{where}no method does better than repeating the last observed weights "
            f"({BASELINE} leads the ranking)"
        )
    else:
        sentence = f"{where}{_leader(weights.board)}"
    sentence += _runner_up(weights.board)
    if function.board is None:
        return sentence + "."
    board = function.board
    second = board.ranking.standings[0]
    at = listed([spoken(label) for label in board.horizons])
    there = f"In function, by the train loss over the horizons {at}, on {listed(board.datasets)}, "
    if second.method == first.method:
        return f"{sentence}. {there}it leads too, {_skill(board)}{_horizons(board, first.method)}."
    if second.method == BASELINE:
        return f"{sentence}. {there}no method does better than the last observed weights."
    own = next((s for s in board.ranking.standings if s.method == first.method), None)
    fate = (
        f"; {first.method} has {fixed(own.skill.value, signed=True)}"
        f"{_horizons(board, first.method)}"
        if own
        else ""
    )
    return f"{sentence}. {there}it is another: {_leader(board)}{_runner_up(board)}{fate}."


def _horizons(board: Leaderboard, method: str) -> str:
    """Say a method's skills at single horizons, for one number hides how they fall."""
    told = board.at_horizons.get(method, [])
    if not told:
        return ""
    said = [
        f"{fixed(one.value, signed=True)} at {spoken(label)}"
        for label, one in zip(board.horizons, told, strict=True)
    ]
    return f" ({', '.join(said)})"


def _leader(board: Leaderboard) -> str:
    return f"{board.ranking.standings[0].method} leads {_skill(board)}"


def _skill(board: Leaderboard) -> str:
    skill = board.ranking.standings[0].skill
    return f"with a skill of {fixed(skill.value, signed=True)} {interval(skill, signed=True)}"


def _runner_up(board: Leaderboard) -> str:
    """Say whether the leader's lead over the second could come from the choice of runs."""
    if len(board.ranking.standings) < 2:
        return ""
    second = board.ranking.standings[1]
    if second.ratio.lower > 1:
        return ""
    return f", not clearly ahead of {second.method}"
