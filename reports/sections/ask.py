"""Skills by tier, track, metric, data set and horizon, for a reader to pick from: drawn there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from weightcast.bench.estimate import Estimate
from weightcast.bench.results.horizons import spoken, spoken_metric
from weightcast.bench.results.leaderboard import Leaderboard
from weightcast.reports.numbers import plural
from weightcast.reports.sections.track import FINE_TUNE
from weightcast.reports.view import MAIN, View

_PLACES = 4
_LENGTH = "length"
#: What can be picked beside a tier's headline; what was not measured is left out.
_METRICS = {"weights": ("rel_sum", "rel_final", "rmse"), "function": ("train_loss", "test_loss")}
_TRACKS = (MAIN, FINE_TUNE)

Skill = list[float] | None


def numbers_to_ask(view: View) -> str:
    """Return what the page's pickers choose from, as JSON that can stand in HTML.

    Returns
    -------
    str
        ``boards``: of each its tier, track, metric (a key and words), baseline, methods with
        colours, what can be picked (``sets`` and ``at``, pairs of a key and words), and
        ``skills[set][at][method]``: value and ends of the interval, or null. Empty where nothing
        is ranked.
    """
    boards = [
        _board(view, board, track)
        for track in _TRACKS
        if (view.results.cells["track"] == track).any()
        for board in _rankings(view, {} if track == MAIN else {"track": track})
    ]
    # Names are foreign: nothing of them may end the element that they stand in.
    return json.dumps({"boards": boards}, separators=(",", ":")).replace("<", "\\u003c")


def _rankings(view: View, options: dict[str, str]) -> Iterator[Leaderboard]:
    """Rank a track by each metric of each tier, the headline first."""
    for tier, metrics in _METRICS.items():
        headline = view.rank(tier=tier, **options).board
        if headline is None:
            continue
        yield headline
        for metric in metrics:
            if metric != headline.metric:
                board = view.rank(tier=tier, metric=metric, **options).board
                if board is not None:
                    yield board


def _board(view: View, board: Leaderboard, track: str) -> dict[str, Any]:
    methods = [s.method for s in board.ranking.standings]
    at = [("", "all horizons of the ranking")]
    at += [(label, f"horizon {spoken(label)}") for label in board.horizons]
    if board.at_length is not None:
        at.append((_LENGTH, "all of them, at best length"))
    every = (
        board.datasets[0] if len(board.datasets) == 1 else f"all {len(board.datasets)} data sets"
    )
    found = [("", every, _pooled(board, methods, at))]
    if len(board.datasets) > 1:
        found += _alone(view, board, track, methods, at)
    return {
        "tier": board.tier,
        "track": track,
        "metric": (board.metric, spoken_metric(board.metric, board.horizons)),
        "baseline": board.ranking.baseline,
        "methods": methods,
        "colours": [view.looks[method].colour for method in methods],
        "references": [method in view.results.references for method in methods],
        "at": at,
        "sets": [(key, said) for key, said, _ in found],
        "skills": [skills for _, _, skills in found],
    }


def _pooled(board: Leaderboard, methods: list[str], at: list[tuple[str, str]]) -> list[list[Skill]]:
    own = {s.method: s.skill for s in board.ranking.standings}

    def skill(method: str, key: str) -> Estimate:
        if not key:
            return own[method]
        if key == _LENGTH:
            return board.at_length.skills.get(method, Estimate()) if board.at_length else Estimate()
        told = dict(zip(board.horizons, board.at_horizons.get(method, []), strict=False))
        return told.get(key, Estimate())

    return [[_plain(skill(method, key)) for method in methods] for key, _ in at]


def _alone(
    view: View, board: Leaderboard, track: str, methods: list[str], at: list[tuple[str, str]]
) -> list[tuple[str, str, list[list[Skill]]]]:
    """Return each data set's key, words and skills."""
    table = view.by_dataset(board, track)
    several = len(table) and table["context"].nunique() > 1
    found = []
    for (dataset, context), part in table.groupby(["dataset", "context"]) if len(table) else []:
        rows = part.set_index("method").to_dict("index")
        skills = [[_row(rows.get(m, {}), key) for m in methods] for key, _ in at]
        said = f"{dataset}, context {context}" if several else str(dataset)
        key = f"{dataset}/{context}" if several else str(dataset)
        found.append((key, f"{said} ({plural(int(part['runs'].max()), 'run')})", skills))
    return found


def _row(row: dict[Any, Any], key: str) -> Skill:
    name = f"skill_{key}" if key else "skill"
    ends = (row.get(f"{name}{end}", math.nan) for end in ("", "_lower", "_upper"))
    return _plain(Estimate(*ends))


def _plain(skill: Estimate) -> Skill:
    if not skill.known:
        return None
    ends = (skill.value, skill.lower, skill.upper)
    return [round(float(end if math.isfinite(end) else skill.value), _PLACES) for end in ends]
