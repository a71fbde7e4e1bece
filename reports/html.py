"""The report: one HTML file that opens without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from weightcast.bench.mixed import environment_differences
from weightcast.bench.results import PLACE, Results
from weightcast.datasets import InputError
from weightcast.reports.compute_section import (
    compute_pictures,
    compute_table,
    jobs_note,
    overhead_note,
)
from weightcast.reports.example_plot import Example, make_example
from weightcast.reports.failures_section import count_statuses, failed_cells, group_failures
from weightcast.reports.figures import Picture
from weightcast.reports.function_section import (
    agreement_table,
    function_pictures,
    function_table,
    function_tasks,
)
from weightcast.reports.horizon_plot import horizon_plot
from weightcast.reports.leaderboard_section import standings, weights_standings
from weightcast.reports.native_section import native_table
from weightcast.reports.numbers import count, plural
from weightcast.reports.privacy import without_folders
from weightcast.reports.setting_section import (
    dataset_table,
    environment_facts,
    suite_facts,
)
from weightcast.reports.shift_section import shift_table
from weightcast.reports.track_section import fine_tune_standings, sharing_table
from weightcast.reports.verdict import verdict
from weightcast.reports.view import View

TEMPLATES = Path(__file__).parent / "templates"


def render_report(results: Results) -> str:
    """Render a result folder as one HTML page.

    Parameters
    ----------
    results : Results

    Returns
    -------
    str
        The page; the same results give the same page.

    Raises
    ------
    InputError
        If the folder holds no results yet.
    """
    if results.cells.empty:
        raise InputError(f"{results.folder.name} holds no results yet; run a suite into it first")
    view = View(results)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_content(view))


def _content(view: View) -> dict[str, Any]:
    results = view.results
    function = view.rank(tier="function")
    headline, complete = weights_standings(view)
    measured = function_tasks(view)
    pictures, correlations = function_pictures(view)
    return {
        "suite": str(results.cells["suite"].iloc[0]),
        "folder": results.folder.name,
        "date": str(results.environment.get("written", ""))[:10],
        "verdict": verdict(view.ranked, function),
        "counts": _counts(view),
        "suite_facts": suite_facts(view),
        "datasets": dataset_table(view),
        "environment": environment_facts(results.environment),
        "mixed": environment_differences(results.machines),
        "headline": headline,
        "complete": complete,
        "native": native_table(view),
        "function_standings": standings(
            view, function, "Function tier", "forest-function", "train_loss_last"
        )
        if measured
        else None,
        "shifts": shift_table(view),
        "fine_tunes": fine_tune_standings(view),
        "sharing": sharing_table(view),
        "function_tables": [(task.title, function_table(view, task)) for task in measured],
        "agreement": agreement_table(view) if measured else None,
        "function_pictures": pictures,
        "correlations": correlations,
        "compute_pictures": compute_pictures(view),
        "compute_tables": [(task.title, compute_table(view, task)) for task in view.tasks],
        "jobs_note": jobs_note(view),
        "overhead_note": overhead_note(view),
        "horizons": _horizons(view),
        "sampled": sorted(view.sampled),
        "examples": _examples(view),
        "looks": view.looks,
        "failures": group_failures(results.failures),
        "statuses": count_statuses(results.failures),
        "command": without_folders(str(results.environment.get("command", ""))),
        "suite_toml": results.suite_toml,
    }


def _counts(view: View) -> list[tuple[str, str]]:
    cells = view.results.cells
    runs = cells[["dataset", "run"]].drop_duplicates()
    places = cells[["label", *PLACE, "run"]].drop_duplicates()
    amounts = [
        (len(view.method_names), "method"),
        (cells["dataset"].nunique(), "data set"),
        (len(runs), "run"),
        (len(places), "cell"),
        (failed_cells(view.results.failures), "failed cell"),
    ]
    return [(count(amount), plural(amount, noun).split(" ", 1)[1]) for amount, noun in amounts]


def _horizons(view: View) -> list[Picture]:
    pictures = []
    for task in view.tasks:
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
    return [found for task in view.tasks if (found := make_example(view, task)) is not None]
