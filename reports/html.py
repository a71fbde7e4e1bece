"""The report: one HTML file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from weightcast.bench.loop.costs import label_of
from weightcast.bench.privacy import without_folders
from weightcast.bench.results.absent import absent_tiers
from weightcast.bench.results.cells import PLACE
from weightcast.bench.results.mixed import environment_differences
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError
from weightcast.reports.figures import Picture, widths
from weightcast.reports.index import Part, index_content
from weightcast.reports.numbers import count, plural
from weightcast.reports.plots.example import Example, make_example
from weightcast.reports.plots.horizon import horizon_plot
from weightcast.reports.sections import apart
from weightcast.reports.sections.agreement import agreement
from weightcast.reports.sections.answers import answers, asked
from weightcast.reports.sections.ask import numbers_to_ask
from weightcast.reports.sections.cards import dataset_cards, method_cards
from weightcast.reports.sections.compute import (
    compute_pictures,
    compute_table,
    jobs_note,
    overhead_note,
)
from weightcast.reports.sections.failures import (
    count_statuses,
    failed_cells,
    failed_loops,
    group_failures,
    group_loop_failures,
)
from weightcast.reports.sections.function import (
    agreement_table,
    function_pictures,
    function_table,
    function_tasks,
)
from weightcast.reports.sections.leaderboard import standings, weights_standings
from weightcast.reports.sections.length import length_table, length_takeaway
from weightcast.reports.sections.loop import curves_note, loop_section
from weightcast.reports.sections.native import native_table
from weightcast.reports.sections.setting import (
    dataset_table,
    environment_facts,
    loop_facts,
    suite_facts,
)
from weightcast.reports.sections.shift import shift_table
from weightcast.reports.sections.sizes import sizes
from weightcast.reports.sections.track import fine_tune_standings, sharing_table
from weightcast.reports.view import View

TEMPLATES = Path(__file__).parent / "templates"
# Stands for style and policy until the page is whole; no foreign text comes before it.
_POLICY = "<!-- policy -->"


def render_report(results: Results | View) -> str:
    """Render a result folder as one HTML page.

    Parameters
    ----------
    results : Results or View
        With a view, what it has computed before is not computed again.

    Returns
    -------
    str
        The page; the same results give the same page.

    Raises
    ------
    InputError
        If the folder holds no results yet.
    """
    view = results if isinstance(results, View) else View(results)
    if view.results.cells.empty and not view.results.loops:
        name = view.results.folder.name
        raise InputError(f"{name} holds no results yet; run a suite into it first")
    return _render("report.html.j2", _content(view))


def render_index(parts: Sequence[Part]) -> str:
    """Render the page that leads to several reports."""
    return _render("index.html.j2", index_content(parts))


def _render(template: str, content: dict[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _read("script.js")
    numbers = itertools.count(1)
    environment.globals["count"] = lambda: next(numbers)
    page = environment.get_template(template).render(
        {"looks": {}} | content | {"policy": Markup(_POLICY), "script": Markup(script)}
    )
    return page.replace(_POLICY, _policy(f"{_read('style.css')}{widths(page)}", script), 1)


def why_nothing_is_ranked(view: View) -> str:
    """Say why the page of a folder ranks nothing; empty where it ranks something."""
    results = view.results
    if view.loop is not None and view.loop.board().standings:
        return ""
    if results.cells.empty:
        return "no method of the loop tier has runs to compare yet"
    tracks = sorted({"main", "fine-tune"} & set(results.cells["track"]))
    for track in tracks:
        if any(view.rank(tier=tier, track=track).board for tier in ("weights", "function")):
            return ""
    return view.ranked.reason


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Write the page's style, and the policy by which it and the script alone hold."""
    allowed = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}"
    )
    return (
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n<style>{style}</style>'
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _content(view: View) -> dict[str, Any]:
    results = view.results
    loop, cells = view.loop, not results.cells.empty
    return {
        "suite": results.suite,
        "folder": results.folder.name,
        "date": str(results.environment.get("written", ""))[:10],
        "asked": asked(view),
        "answers": answers(view),
        "counts": _counts(view),
        "suite_facts": suite_facts(view),
        "loop_facts": loop_facts(view),
        "datasets": dataset_table(view) if cells else None,
        "environment": environment_facts(results.environment),
        "mixed": environment_differences(results.machines, results.packages_used()),
        "cells": cells,
        **(_cell_content(view) if cells else {}),
        # In a template `loop` is what counts a for loop.
        "no_function": absent_tiers(results, "function") if cells else [],
        "no_loop": absent_tiers(results, "loop") if cells else [],
        "loop_part": loop_section(loop) if loop else None,
        "curves_note": curves_note(),
        "looks": view.looks,
        "method_cards": method_cards(view) if cells else [],
        "dataset_cards": dataset_cards(view) if cells else [],
        "failures": [
            *group_failures(results.failures),
            *group_loop_failures(results.loops),
        ],
        "statuses": count_statuses(results.failures, results.loops),
        "command": without_folders(str(results.environment.get("command", ""))),
        "suite_toml": results.suite_toml,
    }


def _cell_content(view: View) -> dict[str, Any]:
    """Make what the tiers of cells fill."""
    function = view.rank(tier="function")
    headline, complete = weights_standings(view)
    measured = function_tasks(view)
    lengths = function.board if function.board and function.board.at_length else None
    return {
        "headline": headline,
        "complete": complete,
        "native": native_table(view),
        "parts": apart.parts(view),
        "by_horizon": [
            picture
            for ranked in (view.whole, function)
            for picture in apart.horizons(view, ranked.board)
        ],
        "sizes": [
            picture for ranked in (view.whole, function) for picture in sizes(view, ranked.board)
        ],
        "numbers": Markup(numbers_to_ask(view)),
        "function_standings": standings(
            view, function, "Function tier", "forest-function", "train_loss"
        )
        if measured
        else None,
        "length": (length_takeaway(lengths), length_table(view, lengths)) if lengths else None,
        "shifts": shift_table(view),
        "fine_tunes": fine_tune_standings(view),
        "sharing": sharing_table(view),
        "function_tables": [(task.title, function_table(view, task)) for task in measured],
        "agreement_table": agreement_table(view) if measured else None,
        "agreement": agreement(view, measured) if measured else None,
        "pictured_note": view.pictured_note,
        "function_pictures": function_pictures(view),
        "compute_pictures": compute_pictures(view),
        "compute_tables": [(task.title, compute_table(view, task)) for task in view.tasks],
        "jobs_note": jobs_note(view),
        "overhead_note": overhead_note(view),
        "horizons": _horizons(view),
        "sampled": sorted(view.sampled),
        "examples": _examples(view),
    }


def _counts(view: View) -> list[tuple[str, str]]:
    cells = view.results.cells
    runs = cells[["dataset", "run"]].drop_duplicates()
    places = cells[["label", *PLACE, "run"]].drop_duplicates()
    loops = view.results.loops
    labels = set(view.method_names) | {label_of(row) for row in loops}
    datasets = set(cells["dataset"]) | {row["dataset"] for row in loops}
    amounts = [(len(labels), "method"), (len(datasets), "data set")]
    if len(cells):
        amounts += [
            (len(runs), "run"),
            (len(places), "cell"),
            (failed_cells(view.results.failures), "failed cell"),
        ]
    if loops:
        amounts += [
            (len(loops), "run in the loop"),
            (len(failed_loops(loops)), "failed run in the loop"),
        ]
    return [(count(amount), _noun(amount, noun)) for amount, noun in amounts]


def _noun(amount: int, noun: str) -> str:
    head, _, place = noun.partition(" in ")
    many = noun if amount == 1 or not place else f"{head}s in {place}"
    return plural(amount, noun, many if place else "").split(" ", 1)[1]


def _horizons(view: View) -> list[Picture]:
    pictures = []
    for task in view.pictured:
        svg = horizon_plot(view, task)
        if svg is not None:
            pictures.append(
                Picture(
                    svg,
                    "Median over test runs of error over distance moved; below the dashed line is "
                    "better than the last value.",
                    task.title,
                )
            )
    return pictures


def _examples(view: View) -> list[Example]:
    return [found for task in view.pictured if (found := make_example(view, task)) is not None]
