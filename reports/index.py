"""The first page of several reports: each folder's answers, and all methods beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weightcast.bench.estimate import Estimate
from weightcast.reports.numbers import DASH, plural
from weightcast.reports.palette import looks
from weightcast.reports.sections.answers import answers, asked
from weightcast.reports.tables import Cell, Column, Table, estimated, words
from weightcast.reports.view import View


@dataclass(frozen=True)
class Part:
    """What the first page says of one folder.

    Attributes
    ----------
    folder : str
        Its name.
    file : str
        The name of its page, which lies beside the first one.
    suite, date : str
    asked : str
        What was run.
    answers : list of str
        A sentence a tier.
    skills : dict of str to dict of str to Estimate
        Tier → method → its skill in the headline ranking.
    """

    folder: str
    file: str
    suite: str
    date: str
    asked: str
    answers: list[str]
    skills: dict[str, dict[str, Estimate]]


def part_of(view: View, file: str) -> Part:
    """Sum a folder's report up."""
    results = view.results
    ranked = {} if results.cells.empty else {"weights": view.ranked}
    if ranked:
        ranked["function"] = view.rank(tier="function")
    return Part(
        results.folder.name,
        file,
        results.suite,
        str(results.environment.get("written", ""))[:10],
        asked(view),
        answers(view),
        {
            tier: {one.method: one.skill for one in found.board.ranking.standings}
            for tier, found in ranked.items()
            if found.board is not None
        },
    )


def index_content(parts: Sequence[Part]) -> dict[str, Any]:
    """Make what the first page is filled with."""
    labels = {label: None for part in parts for skills in part.skills.values() for label in skills}
    return {
        "parts": parts,
        "title": plural(len(parts), "result folder"),
        "skills": _skills(parts, list(labels)) if labels else None,
    }


def _skills(parts: Sequence[Part], labels: list[str]) -> Table:
    """Lay the skills out: a row a method, a column a folder and tier."""
    found = [(part, tier) for part in parts for tier in part.skills]
    colours = looks(labels)
    table = Table(
        "Skill of each method in each folder's headline ranking, with 95 % intervals: 0 is its "
        "baseline, 1 is perfect. Folders differ in data sets, methods and horizons, which their "
        "own pages name: only skills in one column can be compared. A dash: not ranked there.",
        [
            Column("method", numeric=False),
            *(Column(f"{part.folder}: {tier}", part.suite, best="high") for part, tier in found),
        ],
        stacked=True,
    )
    for label in labels:
        row = [words(label, colour=colours[label].colour)]
        for part, tier in found:
            skill = part.skills[tier].get(label)
            row.append(Cell(DASH) if skill is None else estimated(skill, signed=True))
        table.rows.append(row)
    return table
