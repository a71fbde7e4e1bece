"""The verb that holds one result folder against another."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weightcast.bench.cli.app import app, clear_errors, print_notes, print_table
from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    from weightcast.bench.results.compare import Change


@app.command()
@clear_errors
def compare(
    before: Annotated[
        Path, typer.Argument(help="A result folder, or one of released tables.", metavar="DIR_A")
    ],
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
    from weightcast.bench.results.released_tables import is_released
    from weightcast.bench.results.tables import load_results

    check_output_file("--csv", csv)
    if is_released(before):
        if metric is not None:
            raise InputError("released tables have metrics of their own; leave --metric out")
        _against_released(before, after, tier, fail_on_regression, csv, as_json)
        return
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


def _against_released(
    tables: Path, folder: Path, tier: str | None, strict: bool, csv: Path | None, as_json: bool
) -> None:
    """Hold a folder's results against released tables."""
    import pandas as pd

    from weightcast.bench.results.csv_cells import csv_text
    from weightcast.bench.results.released_tables import OUTSIDE, SAME, held_rows, hold_against
    from weightcast.bench.results.tables import load_results
    from weightcast.datasets.files.partial_file import write_text

    found = hold_against(tables, load_results(folder), tier)
    rows = held_rows(found)
    if as_json:
        typer.echo(json.dumps({"held": rows}, indent=2))
    else:
        shown = [
            {
                "tier": one.tier,
                "method": one.method,
                "task": one.task,
                "released": f"{one.released:.4g}",
                "here": f"{one.here:.4g}",
                "skill, released": f"{one.released_skill:+.3f}",
                "skill, here": f"{one.skill:+.3f} [{one.skill_lower:+.3f}, {one.skill_upper:+.3f}]",
                "verdict": one.verdict,
            }
            for one in found
            if one.verdict != SAME
        ]
        if shown:
            print_table(shown)
        counts = Counter(one.verdict for one in found)
        said = ", ".join(f"{many} {word}" for word, many in sorted(counts.items()))
        typer.echo(f"{len(found)} released numbers held against {folder}: {said}")
        if counts[OUTSIDE]:
            typer.echo("on other runs than were released, one in twenty is outside by chance")
    if csv is not None:
        write_text(csv, csv_text(pd.DataFrame(rows)))
    if strict and any(one.verdict == OUTSIDE and one.here > one.released for one in found):
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
