"""The verbs about methods: listed, checked, and used on a run of one's own."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from weightcast.bench.cli.app import (
    AsJson,
    Plugins,
    app,
    clear_errors,
    load_plugins,
    print_notes,
    print_table,
)
from weightcast.datasets.errors import InputError


class Dtype(StrEnum):
    """What parameters of a forecast can be."""

    ORIGINAL = "original"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"


class Listed(StrEnum):
    """What `weightcast list` lists."""

    methods = "methods"
    datasets = "datasets"
    suites = "suites"


@app.command("list")
@clear_errors
def list_(
    what: Annotated[Listed, typer.Argument(help="methods, datasets or suites.")],
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """List what is registered."""
    from weightcast.bench.commands.listing import listing

    load_plugins(plugin)
    rows = listing(what.value)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        # What a row is tested against is long, and stands in the documentation.
        print_table([{k: v for k, v in row.items() if k != "tested_against"} for row in rows])
        if what is Listed.methods:
            typer.echo("and sklearn:Class(params), any regressor, and sktime:Class(params)")


class SeveralFitRuns(TyperCommand):
    """Lets ``--fit`` take all paths that follow it, so that a shell may expand ``runs/*``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        following = False
        for argument in args:
            if argument.startswith("-"):
                following = argument == "--fit"
            elif following and spread[-1] != "--fit":
                spread.append("--fit")
            spread.append(argument)
        return super().parse_args(ctx, spread)


@app.command(cls=SeveralFitRuns)
@clear_errors
def forecast(
    path: Annotated[
        Path, typer.Argument(help="A run: a trajectory file, or a folder of checkpoints as it is.")
    ],
    method: Annotated[str, typer.Option(help="A method's name; see `weightcast list methods`.")],
    horizon: Annotated[
        int, typer.Option(help="How many snapshots ahead, spaced as the run's own.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The .safetensors file to write; or, without an ending, a folder that "
            "from_pretrained opens."
        ),
    ],
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Whole runs to learn from, of the same network and cadence; several may follow. "
            "The last quarter, at least one, is for validation; a single run serves as both."
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Forecast from snapshots 0 to N only; by default from all.", metavar="N"),
    ] = None,
    no_measure: Annotated[
        bool,
        typer.Option("--no-measure", help="Leave the train losses out, which take the run's data."),
    ] = False,
    backtests: Annotated[
        int,
        typer.Option(
            help="At how many earlier origins of the run, and with how many parts of the fit runs "
            "left out in turn, the method is tried, to tell whether to use its forecast.",
            metavar="N",
        ),
    ] = 4,
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="The parameters' type; original is that in the run's own checkpoints, float32 "
            "where it has none.",
        ),
    ] = Dtype.ORIGINAL,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Forecast a run's weights, write a checkpoint for load_state_dict, and say what it is worth.

    The rest of the network is written as the run recorded it; batch-norm statistics are estimated
    anew where the run's recipe gives its data. Then the method is tried wherever the future is
    known, beside the last value, damped-line and line-search: where the run goes on beyond
    --context, at earlier origins of it, and on each run to learn from, left out of the fit.
    """
    # One thread, as in the benchmark: small networks learn many times slower with more on a busy
    # machine. The numerical libraries read this once, when they load.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from weightcast.bench.commands.arguments import (
        check_count,
        check_horizon,
        check_output_file,
        check_output_folder,
    )
    from weightcast.bench.commands.evidence import said
    from weightcast.bench.commands.forecast import forecast_run
    from weightcast.bench.commands.forecast_asked import ForecastFailed

    check_horizon("--horizon", horizon)
    check_count("--backtests", backtests, "origins", 0, 100)
    check = check_output_file if out.suffix == ".safetensors" else check_output_folder
    check("--out", out)
    load_plugins(plugin)
    try:
        written = forecast_run(
            path,
            method,
            horizon,
            out,
            fit=fit or [],
            context=context,
            measure=not no_measure,
            backtests=backtests,
            dtype=dtype.value,
        )
    except ForecastFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(written.to_json(), indent=2))
        return
    typer.echo(written.line())
    if written.evidence is not None:
        rows = said.table(written.evidence)
        if rows:
            print_table(rows)
        print_notes(said.notes(written.evidence))
        typer.echo(said.sentence(written.evidence))


@app.command()
@clear_errors
def check(
    method: Annotated[
        str,
        typer.Argument(
            help="A method's name, or a plugin file all of whose methods are checked.",
            metavar="NAME|FILE.py",
        ),
    ],
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Check that a method keeps the contract of all methods; exit 1 where it does not."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from weightcast.bench.commands.check import check_methods

    load_plugins(plugin)
    names = [method]
    if method.endswith(".py"):
        names = load_plugins([Path(method)])
        if not names:
            raise InputError(f"{method} registers no method to check")
    found = check_methods(names, None if as_json else typer.echo)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    if any(row["status"] == "failed" for row in found):
        raise typer.Exit(1)
