"""`weightcast run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from weightcast.bench.cli import completion
from weightcast.bench.cli.app import (
    DataFolder,
    Device,
    Plugins,
    app,
    clear_errors,
    load_plugins,
    print_table,
)
from weightcast.bench.printable import printable
from weightcast.datasets.errors import InputError


@app.command()
@clear_errors
def run(
    suite: Annotated[
        str,
        typer.Option(help="A suite's name, or a .toml file.", autocompletion=completion.suites),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The result folder; what is there already is kept. By default results/SUITE.",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Only these methods, separated by commas.", autocompletion=completion.methods
        ),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(
            help="Only these data sets, separated by commas.", autocompletion=completion.datasets
        ),
    ] = None,
    plugin: Plugins = None,
    data: DataFolder = None,
    jobs: Annotated[
        int | None, typer.Option(help="Worker processes; by default the suite's number.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for each fit and each cell; by default the suite's, an hour."),
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option(
            help="Megabytes a worker process; by default its share of 90 % of the machine's.",
        ),
    ] = None,
    device: Annotated[
        Device,
        typer.Option(
            help="cuda: networks are measured on a GPU; methods that are networks train and run "
            "there, and have rows of their own."
        ),
    ] = Device.cpu,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Run on a Dask cluster, e.g. tcp://10.0.0.1:8786.", metavar="ADDRESS"),
    ] = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing",
            help="One cell at a time, so that seconds compare; runs again what was timed with "
            "others beside it.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells without a result again.")
    ] = False,
    tuning: Annotated[
        int | None,
        typer.Option(
            help="Configurations that each method with a grid may try; by default the suite's "
            "number.",
            metavar="N",
        ),
    ] = None,
    no_tuning: Annotated[
        bool, typer.Option("--no-tuning", help="Run every method's defaults: --tuning 0.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Record missing data sets first.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave missing data sets out, and say so.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where a cell of the suite has failed.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would run, how long and what is missing; write nothing."
        ),
    ] = False,
) -> None:
    """Run what is missing from a result folder."""
    from weightcast.bench.commands.dry_run import dry_run as say
    from weightcast.bench.commands.failures import counted
    from weightcast.bench.commands.run import Interrupted, RunFailed, RunOptions, run_suite
    from weightcast.bench.engine.processes.kept_process import kept_process

    if no_tuning and tuning:
        raise InputError("--no-tuning is --tuning 0; give one of them")
    options = RunOptions(
        suite=suite,
        out=out or Path("results") / Path(suite).stem,
        methods=_names(methods),
        datasets=_names(datasets),
        plugins=[path.resolve() for path in plugin or []],
        data=data,
        jobs=jobs,
        timeout=timeout,
        max_memory=max_memory,
        scheduler=scheduler,
        device=device.value,
        timing=timing,
        retry_failed=retry_failed,
        tuning=0 if no_tuning else tuning,
        record=record,
        skip_missing=skip_missing,
        command=sys.argv[1:],
    )
    options.check()
    with kept_process():  # what a plugin does to this one would reach all that it starts
        plugins = load_plugins(plugin)
    # Plugin methods run even where the suite does not name them.
    options.extra_methods = plugins if methods is None else []
    if dry_run:
        rows, lines = say(options)
        print_table(rows)
        for line in lines:
            typer.echo(printable(line))
        return
    try:
        statuses = run_suite(options)
    except Interrupted as stop:
        typer.echo(f"weightcast: {stop}", err=True)
        raise typer.Exit(130) from None
    except RunFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    failed = {status: count for status, count in statuses.items() if status != "ok"}
    typer.echo(
        f"{sum(failed.values()):,} failed cells: {counted(failed)}" if failed else "no failed cells"
    )
    if strict and failed:
        raise typer.Exit(1)


def _names(given: str | None) -> list[str] | None:
    if given is None:
        return None
    from weightcast.methods.adapter_name import split_names

    return split_names(given)
