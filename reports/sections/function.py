"""The function tier: what the real network does with forecast weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.horizons import LABELS
from weightcast.reports.figures import Picture, slug
from weightcast.reports.numbers import DASH, median, values
from weightcast.reports.plots.function import Outcome, function_plot
from weightcast.reports.tables import Cell, Column, Table, key, share, value, words
from weightcast.reports.view import Task, View

if TYPE_CHECKING:
    import pandas as pd


def function_tasks(view: View) -> list[Task]:
    """List the tasks with any measured network."""
    return [task for task in view.tasks if (view.at(view.function, task)["status"] == "ok").any()]


def _measured(rows: pd.DataFrame) -> list[str]:
    names = [label for label in LABELS if f"loss_change_{label}" in rows.columns]
    return [label for label in names if len(values(rows[f"loss_change_{label}"]))]


def function_table(view: View, task: Task) -> Table:
    """Tabulate a task's networks: methods, then the recorded run's own weights."""
    rows = view.at(view.function, task)
    measured = _measured(rows)
    table = Table(
        "Medians over test runs. Change in loss: train loss with the forecast weights minus that "
        "of the last observed weights; below 0 is better. Below: share of runs whose network is no "
        "better than w₀; above: share in which it is better than the whole recorded run."
        f"{batch_norm_note(rows)}",
        [
            Column("weights", "method, or the run's own", numeric=False),
            *(
                Column(
                    "Δ loss, last" if label == "last" else f"Δ loss, {label[1:]}",
                    "median change in train loss at this horizon",
                    best="low",
                )
                for label in measured
            ),
            Column("test accuracy, last", "median, at the last horizon", best="high"),
            Column("steps gained, last", "median, in optimizer steps", best="high"),
            Column("below", "steps gained censored below", best="low"),
            Column("above", "steps gained censored above"),
            Column("failed", "runs without a usable network", best="low"),
        ],
    )
    tested = "test_accuracy_last" in rows.columns
    for label in view.labels:
        mine = rows[rows["label"] == label]
        if mine.empty:
            continue
        ok = mine[mine["status"] == "ok"]
        censored = ok["steps_gained_censored_last"]
        table.rows.append(
            [
                words(label, colour=view.looks[label].colour),
                *(value(median(ok[f"loss_change_{h}"]), signed=True) for h in measured),
                _percent(
                    median(ok["test_accuracy_last"])
                    if tested and "test_accuracy_last" in ok
                    else None
                ),
                value(median(ok["steps_gained_last"]), signed=True),
                share(int((censored == "below").sum()), len(ok)),
                share(int((censored == "above").sum()), len(ok)),
                Cell(str(len(mine) - len(ok)), str(len(mine) - len(ok))),
            ]
        )
    recorded = rows.dropna(subset=["train_loss_origin"]).drop_duplicates("run")
    origin = recorded.get("test_accuracy_origin")
    table.rows.append(
        [
            words("last observed weights"),
            *(value(0.0) for _ in measured),
            _percent(median(origin) if origin is not None else None),
            value(0.0),
            *[Cell(DASH)] * 3,
        ]
    )
    truth = recorded.get("true_test_accuracy_last")
    table.rows.append(
        [
            words("true later weights"),
            *(value(true_change(recorded, label), signed=True) for label in measured),
            _percent(median(truth) if truth is not None else None),
            *[Cell(DASH)] * 4,
        ]
    )
    return table


def _fits(rows: pd.DataFrame, chosen: pd.Series) -> set[tuple[int, int]]:
    """Return the run of each chosen row, and which of the method's fits forecast it."""
    return set(zip(rows["run"][chosen], rows["repeat"][chosen], strict=True))


def batch_norm_note(rows: pd.DataFrame) -> str:
    """Say what statistics the batch norms had with forecast weights; nothing without any."""
    if "batch_norm" not in rows:
        return ""
    said = sorted(set(rows["batch_norm"].dropna()) - {""})
    return f" Batch-norm statistics with forecast weights: {'; '.join(said)}." if said else ""


def true_change(recorded: pd.DataFrame, label: str) -> float:
    """Return the recorded runs' median change in train loss from the origin to a horizon."""
    name = f"true_train_loss_{label}"
    if name not in recorded:
        return float("nan")
    return median(recorded[name].astype(float) - recorded["train_loss_origin"].astype(float))


def agreement_table(view: View) -> Table:
    """Count, where a method beats the last value in weights, how often it does so in loss."""
    table = Table(
        "Single test runs, with each fit of a method that draws random numbers. Left: of the runs "
        "in which the method's rel_sum is below 1, the share in which the network's train loss at "
        "the last horizon is below that of the last observed weights. Right: the same for the "
        "other runs. A run without a usable network counts as not lower.",
        [
            Column("method", numeric=False),
            *(
                Column(f"{task.title}: {side}", hint)
                for task in function_tasks(view)
                for side, hint in (
                    ("better in weights", "share with lower loss where rel_sum < 1"),
                    ("not better", "share with lower loss where rel_sum ≥ 1"),
                )
            ),
        ],
    )
    for label in view.labels:
        if label == BASELINE or label in view.sampled:
            continue
        row = [words(label, colour=view.looks[label].colour)]
        for task in function_tasks(view):
            weights = view.at(view.weights, task, label)
            known = (weights["status"] == "ok") & weights["rel_sum"].notna()
            function = view.at(view.function, task, label)
            lower = _fits(
                function, (function["status"] == "ok") & (function["loss_change_last"] < 0)
            )
            better = weights["rel_sum"] < 1
            for runs in (_fits(weights, known & better), _fits(weights, known & ~better)):
                row.append(share(len(runs & lower), len(runs)))
        table.rows.append(row)
    return table


def outcomes(view: View, task: Task) -> list[Outcome]:
    """Return each measured method's medians on a task."""
    found = []
    for label in view.labels:
        function = view.at(view.function, task, label)
        weights = view.at(view.weights, task, label)
        error = median(weights["rel_final"][weights["status"] == "ok"])
        usable = function["status"] == "ok"
        if usable.any():
            change = median(function["loss_change_last"][usable])
            if np.isfinite(error) and np.isfinite(change):
                found.append(Outcome(label, error, change))
    return found


def function_pictures(view: View) -> list[Picture]:
    """Draw the two tiers' medians against each other, a picture a task."""
    pictures = []
    for task in (task for task in function_tasks(view) if task in view.pictured):
        rows = view.at(view.function, task)
        recorded = rows.dropna(subset=["train_loss_origin"]).drop_duplicates("run")
        svg = function_plot(
            slug("function", task.dataset, task.context),
            f"Error in weights against change in train loss on {task.title}",
            outcomes(view, task),
            true_change(recorded, "last"),
            view.looks,
        )
        if svg is not None:
            pictures.append(
                Picture(
                    svg,
                    "Medians over test runs at the last horizon; lower left is better in both.",
                    task.title,
                )
            )
    return pictures


def _percent(amount: float | None) -> Cell:
    if amount is None or np.isnan(amount):
        return Cell(DASH)
    return Cell(f"{100 * amount:.1f} %", key(amount))
