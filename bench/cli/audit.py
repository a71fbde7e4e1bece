"""The verb that asks whether results hold on runs that nobody has seen."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weightcast.bench.cli.app import (
    DataFolder,
    Plugins,
    ResultFolder,
    app,
    clear_errors,
    load_plugins,
    print_table,
)

if TYPE_CHECKING:
    from weightcast.bench.results.audit import AuditRow


@app.command()
@clear_errors
def audit(
    folder: ResultFolder,
    methods: Annotated[
        str | None, typer.Option(help="Only these methods, separated by commas.")
    ] = None,
    fresh: Annotated[int, typer.Option(help="Fresh runs a data set.")] = 12,
    datasets: Annotated[
        str | None,
        typer.Option(
            help="Only these data sets, separated by commas; by default all whose runs are "
            "generated or train in seconds."
        ),
    ] = None,
    plugin: Plugins = None,
    data: DataFolder = None,
    jobs: Annotated[
        int | None, typer.Option(help="Worker processes; by default the suite's number.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where a method is not confirmed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """See whether results hold on runs that nobody has seen, drawn at this moment."""
    from weightcast.bench.commands.audit import AuditOptions, run_audit
    from weightcast.bench.commands.run import Interrupted, RunFailed
    from weightcast.bench.engine.processes.kept_process import kept_process

    options = AuditOptions(
        folder,
        methods=_names(methods),
        datasets=_names(datasets),
        fresh=fresh,
        data=data,
        jobs=jobs,
        plugins=[path.resolve() for path in plugin or []],
        command=sys.argv[1:],
    )
    options.check()
    with kept_process():
        load_plugins(plugin)
    try:
        rows = run_audit(options)
    except Interrupted as stop:
        typer.echo(f"weightcast: {stop}", err=True)
        raise typer.Exit(130) from None
    except RunFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows], indent=2))
    else:
        _print(rows)
    if strict and any(row.verdict == "not confirmed" for row in rows):
        raise typer.Exit(1)


def _names(given: str | None) -> list[str] | None:
    if given is None:
        return None
    from weightcast.methods.adapter_name import split_names

    return split_names(given)


def _print(rows: list[AuditRow]) -> None:
    print_table([_row(row) for row in rows])
    failed = sum(row.verdict == "not confirmed" for row in rows)
    typer.echo(
        f"{len(rows)} comparisons (method, task and tier): {failed} not confirmed, "
        f"{sum(row.verdict == 'confirmed' for row in rows)} confirmed; errors are over last-value's"
    )


def _row(row: AuditRow) -> dict[str, Any]:
    published, fresh = row.published, row.fresh
    return {
        "verdict": row.verdict,
        "tier": row.tier,
        "method": row.method,
        "task": row.task,
        "published": f"{published[0]:.3f} [{published[1]:.3f}, {published[2]:.3f}]",
        "fresh": f"{fresh[0]:.3f} [{fresh[1]:.3f}, {fresh[2]:.3f}]",
        "p": "—" if row.p is None else f"{row.p:.2g}",
        "runs": f"{row.runs} and {row.fresh_runs}",
        "failures": row.failures,
    }
