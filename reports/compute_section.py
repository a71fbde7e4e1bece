"""What methods cost: pictures of accuracy against seconds, and tables."""

from __future__ import annotations

import math

from weightcast.datasets import all_datasets
from weightcast.reports.compute_plot import Cost, compute_plot
from weightcast.reports.figures import Picture, slug
from weightcast.reports.numbers import DASH, count, median, memory, number, plural, seconds
from weightcast.reports.tables import Cell, Column, Table, key, value, words
from weightcast.reports.view import Task, View

# Of fewer coordinates, seconds per million say what one call costs, not what a coordinate does.
_FEWEST = 1000


def costs(view: View, task: Task) -> list[Cost]:
    """Return each method's median cost and error on a task."""
    found = []
    for label, error in view.medians(task):
        rows = view.at(view.weights, task, label)
        rows = rows[rows["status"] == "ok"]
        total = median(rows["fit_seconds"].astype(float) + rows["predict_seconds"].astype(float))
        found.append(Cost(label, total, error, label in view.sampled))
    return found


def compute_pictures(view: View) -> list[Picture]:
    """Draw each task's accuracy against compute."""
    pictures = []
    for task in view.tasks:
        svg = compute_plot(
            slug("compute", task.dataset, task.context),
            f"Median error against seconds of compute on {task.title}",
            costs(view, task),
            view.looks,
        )
        if svg is not None:
            pictures.append(
                Picture(
                    svg,
                    "Medians over test runs; further left is cheaper, lower is better.",
                    task.title,
                )
            )
    return pictures


def compute_table(view: View, task: Task) -> Table:
    """Tabulate what methods cost on a task."""
    rows_here = view.at(view.weights, task)
    size = rows_here["coordinates"].dropna()
    per_million = _is_recorded(task) and len(size) > 0 and float(size.max()) >= _FEWEST
    columns = [
        Column("method", numeric=False),
        Column("fit", "seconds of one fit, tuning included"),
        Column("forecast", "seconds of one test run's forecast"),
    ]
    if per_million:
        columns.append(Column("per million", "seconds of forecast per million coordinates"))
    columns += [
        Column("peak memory", "of one forecast, above what the process held before"),
        Column("parameters", "learned numbers"),
        Column("break-even uses", "uses until steps gained pay for fit and training runs"),
        Column("median rel_sum"),
    ]
    table = Table("Medians over test runs, wall-clock time.", columns)
    for label, error in view.medians(task):
        rows = view.at(view.weights, task, label)
        rows = rows[rows["status"] == "ok"]
        function = view.at(view.function, task, label)
        uses = median(function["break_even_uses"][function["status"] == "ok"])
        row = [
            words(
                label,
                note="on the sample" if label in view.sampled else "",
                colour=view.looks[label].colour,
            ),
            _seconds(median(rows["fit_seconds"])),
            _seconds(median(rows["predict_seconds"])),
        ]
        if per_million:
            row.append(_seconds(median(rows["predict_seconds_per_million"])))
        held = median(rows["peak_memory_bytes"])
        learned = median(rows["parameters"])
        row += [
            Cell(memory(held), key(held)),
            Cell(count(learned), key(learned)),
            _uses(uses),
            value(error),
        ]
        table.rows.append(row)
    return table


def jobs_note(view: View) -> str:
    """Say how many workers shared the machine while seconds were taken."""
    jobs = sorted({int(j) for j in view.weights["jobs"].dropna()})
    threads = sorted({int(t) for t in view.weights["threads"].dropna()})
    if not jobs:
        return ""
    counted = " or ".join(map(str, jobs))
    pinned = " or ".join(map(str, threads))
    note = (
        f"Each worker was held to {plural(threads[0], 'thread')}."
        if len(threads) == 1
        else (f"Workers were held to {pinned} threads." if threads else "")
    )
    if max(jobs) > 1:
        return (
            f"Seconds were taken with {counted} workers side by side, which slows each of them "
            f"down; compare them within this report only. {note}"
        )
    return f"Seconds were taken with one worker at a time. {note}"


def _is_recorded(task: Task) -> bool:
    known = all_datasets()
    return task.dataset not in known or known[task.dataset].recorded


def _seconds(amount: float) -> Cell:
    return Cell(seconds(amount), key(amount))


def _uses(amount: float) -> Cell:
    if math.isnan(amount):
        return Cell(DASH)
    return Cell("never" if math.isinf(amount) else number(amount), key(amount))
