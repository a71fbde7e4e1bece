"""The verb that holds one result folder against another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weightcast.bench.cli.app import app, clear_errors, print_notes, print_table

if TYPE_CHECKING:
    from weightcast.bench.results.compare import Change


@app.command()
@clear_errors
def compare(
    before: Annotated[Path, typer.Argument(help="A result folder.", metavar="DIR_A")],
    after: Annotated[
        Path, typer.Argument(help="The result folder to hold against it.", metavar="DIR_B")
    ],
    tier: Annotated[str | None, typer.Option(help="weights or function; by default both.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="By default the tier's headline metric.")
    ] = None,
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression", help="Exit with 1 where a method became worse or fails more."
        ),
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every comparison here too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what changed between two result folders, run by run."""
    from weightcast.bench.commands.arguments import check_output_file
    from weightcast.bench.results.compare import change_rows
    from weightcast.bench.results.compare import compare as compare_results
    from weightcast.bench.results.tables import load_results

    check_output_file("--csv", csv)
    found = compare_results(load_results(before), load_results(after), tier=tier, metric=metric)
    worse = [change for change in found.changes if change.regression]
    if as_json:
        rows = change_rows(found.changes)
        plain = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in rows
        ]
        typer.echo(json.dumps({"changes": plain, "notes": found.notes}, indent=2))
    else:
        _print(found.changes, found.notes)
    if csv is not None:
        import pandas as pd

        from weightcast.bench.results.csv_cells import csv_text
        from weightcast.datasets.files.partial_file import write_text

        write_text(csv, csv_text(pd.DataFrame(change_rows(found.changes))))
    if worse and fail_on_regression:
        raise typer.Exit(1)


def _print(changes: list[Change], notes: list[str]) -> None:
    """Print what changed, and how much did not."""
    from weightcast.bench.results.compare import FEW, SAME

    changed = [change for change in changes if change.verdict not in (SAME, FEW)]
    if changed:
        print_table([_row(change) for change in changed])
    rest = len(changes) - len(changed)
    few = sum(change.verdict == FEW for change in changes)
    typer.echo(
        f"{len(changes)} comparisons (method, task and tier): "
        f"{sum(change.regression for change in changes)} worse, "
        f"{len(changed) - sum(change.regression for change in changes)} better, "
        f"{rest - few} not distinguishable, {few} with too few runs"
    )
    print_notes(notes)


def _row(change: Change) -> dict[str, Any]:
    ratio = change.ratio
    return {
        "verdict": change.verdict,
        "tier": change.tier,
        "method": change.method,
        "task": change.task,
        "before": f"{change.before:.4g}",
        "after": f"{change.after:.4g}",
        "ratio": f"{ratio.value:.3f} [{ratio.lower:.3f}, {ratio.upper:.3f}]",
        "p": f"{change.p:.2g}",
        "failures": f"{change.failures[0]} → {change.failures[1]}",
        "runs": change.runs,
    }
