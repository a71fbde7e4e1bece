"""What methods cost: pictures of accuracy against seconds, and tables."""

from __future__ import annotations

import math

from weightcast.datasets import all_datasets
from weightcast.reports.figures import Picture, slug
from weightcast.reports.numbers import DASH, median, memory, number, plural, seconds
from weightcast.reports.plots.compute import Cost, compute_plot
from weightcast.reports.tables import Cell, Column, Table, amount, key, value, words
from weightcast.reports.view import Task, View

# Of fewer coordinates, seconds per million say what one call costs, not what a coordinate does.
_FEWEST = 1000
# More data sets than these are summed up.
_MOST_NAMED = 4


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
    for task in view.pictured:
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
        Column("fit", "seconds of one fit, tuning included", best="low"),
        Column("forecast", "seconds of one test run's forecast", best="low"),
    ]
    if per_million:
        columns.append(
            Column("per million", "seconds of forecast per million coordinates", best="low")
        )
    columns += [
        Column("peak memory", "of one forecast, above what the process held before", best="low"),
        Column("parameters", "learned numbers", best="low"),
    ]
    flops = bool(rows_here["flops_per_coordinate"].notna().any())
    if flops:
        columns.append(
            Column(
                "FLOPs per coordinate", "of one forecast, as the method declares them", best="low"
            )
        )
    columns += [
        Column(
            "break-even uses", "uses until steps gained pay for fit and training runs", best="low"
        ),
        Column("median rel_sum", best="low"),
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
        row += [Cell(memory(held), key(held)), amount(learned)]
        if flops:
            row.append(amount(median(rows["flops_per_coordinate"])))
        row += [_uses(uses), value(error)]
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
            "down; compare them within this report only, or run with --timing to take them one at "
            f"a time. {note}"
        )
    return f"Seconds were taken with one worker at a time. {note}"


def overhead_note(view: View) -> str:
    """Say in a sentence what the harness itself takes a cell, by data set."""
    ok = view.weights[view.weights["status"] == "ok"]
    medians = {
        str(dataset): median(part["overhead_seconds"])
        for dataset, part in ok.groupby("dataset", sort=True)
    }
    known = {name: took for name, took in medians.items() if not math.isnan(took)}
    if not known:
        return ""
    if len(known) <= _MOST_NAMED:
        said = [f"{seconds(took)} on {name}" for name, took in known.items()]
        where = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    else:
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        where = f"from {seconds(known[low])} on {low} to {seconds(known[high])} on {high}"
    return (
        "Beyond the method and the real network, the harness itself (reading, scoring, handing "
        f"out; storing is not counted) takes a median, per cell, of {where}."
    )


def _is_recorded(task: Task) -> bool:
    known = all_datasets()
    return task.dataset not in known or known[task.dataset].recorded


def _seconds(value: float) -> Cell:
    return Cell(seconds(value), key(value))


def _uses(uses: float) -> Cell:
    if math.isnan(uses):
        return Cell(DASH)
    return Cell("never" if math.isinf(uses) else number(uses), key(uses))
