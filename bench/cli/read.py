"""The verbs that read result folders: ranked, reported, exported, merged."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weightcast.bench.cli.app import ResultFolder, app, clear_errors, print_notes, print_table
from weightcast.bench.printable import printable
from weightcast.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from weightcast.bench.results.inference.errors import RunErrors
    from weightcast.bench.results.inference.pairwise import Pairwise
    from weightcast.bench.results.inference.ranking import Ranking
    from weightcast.bench.results.tables import Results


class HorizonSet(StrEnum):
    """Which horizons `weightcast leaderboard` is about."""

    common = "common"
    native = "native"


class ReportFormat(StrEnum):
    """What `weightcast report` writes."""

    html = "html"
    markdown = "markdown"
    latex = "latex"


#: Options that take networks apart, with what they take them apart by.
_BY_PART = {"--by-kind": "kind", "--by-depth": "depth"}


@app.command()
@clear_errors
def leaderboard(
    source: Annotated[
        Path,
        typer.Argument(
            help="A result folder, or a CSV of method,task,error; with a column run, of errors of "
            "runs."
        ),
    ],
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
        str,
        typer.Option(
            help="seeds (whole runs), early, middle, late, or train-N (fitted on N runs)."
        ),
    ] = "seeds",
    csv: Annotated[Path | None, typer.Option(help="Write the ranking here too.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option(help="Write the errors ranked here, a row a run, fit and horizon."),
    ] = None,
    datasets: Annotated[
        str | None, typer.Option(help="Rank on these data sets alone; names with commas.")
    ] = None,
    by_dataset: Annotated[
        bool, typer.Option("--by-dataset", help="Each method's skill on each data set.")
    ] = False,
    by_kind: Annotated[
        bool, typer.Option("--by-kind", help="Skills in weights on each kind of tensor.")
    ] = False,
    by_depth: Annotated[
        bool,
        typer.Option("--by-depth", help="Skills in weights from a network's input to its output."),
    ] = False,
    by_horizon: Annotated[
        bool, typer.Option("--by-horizon", help="Skills at each context and horizon.")
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Every method against every other, with Friedman's test."),
    ] = False,
    horizons: Annotated[
        HorizonSet,
        typer.Option(help="native compares methods at the horizons that each was made for."),
    ] = HorizonSet.common,
    readout: Annotated[
        str | None,
        typer.Option(
            help="Of the loop tier: raw (by default), average, the moving average, or tuned, "
            "whichever is better."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Of the loop tier: hard (by default) or easy.")
    ] = None,
) -> None:
    """Rank methods, with run-level 95 % intervals."""
    from weightcast.bench.commands.arguments import check_output_file
    from weightcast.bench.results.headline import BASELINE

    check_output_file("--csv", csv)
    check_output_file("--errors", errors)
    table = _one_table(
        {
            "--by-dataset": by_dataset,
            "--by-kind": by_kind,
            "--by-depth": by_depth,
            "--by-horizon": by_horizon,
            "--pairs": pairs,
        }
    )
    given = [table] * bool(table) + ["--datasets"] * bool(datasets) + ["--errors"] * bool(errors)
    if table in _BY_PART and (tier not in (None, "weights") or metric not in (None, "rel_sum")):
        raise InputError(f"{table} takes rel_sum apart; leave --tier and --metric out")
    if horizons is HorizonSet.native:
        if tier not in (None, "weights") or metric or baseline:
            raise InputError("--horizons native has one tier and metric, and no baseline to choose")
        _refuse(given, "--horizons native")
        _print_native(source, track, split, csv)
        return
    if not source.is_dir() and source.suffix == ".csv":
        if tier == "loop":
            raise InputError(f"{source} is a file; --tier loop takes a result folder")
        _refuse_loop_options(readout, target)
        _refuse([name for name in given if name != "--pairs"], "a CSV file")
        _print_csv(source, baseline, csv, pairs)
        return
    from weightcast.bench.results.tables import load_results

    results = load_results(source)
    if tier == "loop" or (tier is None and results.loops and results.cells.empty):
        if baseline or (track, split) != ("main", "seeds"):
            raise InputError(
                "the loop tier compares with tuned plain training on whole runs; leave "
                "--baseline, --track and --split out"
            )
        _refuse(given, "the loop tier")
        _print_loop(results, metric, readout or "raw", target or "hard", csv)
        return
    _refuse_loop_options(readout, target)
    if results.loops and results.cells.empty:
        raise InputError(f"{source} holds runs of the loop tier alone; leave --tier out")
    _print_ranking(
        results,
        table,
        csv,
        errors,
        metric="rel_sum" if table in _BY_PART else metric,
        datasets=None if datasets is None else [name.strip() for name in datasets.split(",")],
        tier=tier or "weights",
        baseline=baseline or BASELINE,
        track=track,
        split=split,
    )


def _print_csv(source: Path, baseline: str | None, csv: Path | None, pairs: bool) -> None:
    from weightcast.bench.commands.info import ranking_rows
    from weightcast.bench.results.file_board import rank_csv
    from weightcast.bench.results.inference.ranking import failure_notes
    from weightcast.methods.registry import is_reference

    board = rank_csv(source, baseline)
    ranking = board.ranking
    notes = [*ranking.left_out, *failure_notes(ranking)]
    if pairs:
        if board.pairwise is None or board.errors is None:
            raise InputError(f"{source} has no column run, and --pairs compares run by run")
        _print_pairs(board.pairwise, board.errors, ranking, source.name, notes, csv)
        return
    tasks = f"{len(ranking.tasks)} task{'s' * (len(ranking.tasks) != 1)}"
    title = f"{source.name}, {tasks}; skill against {ranking.baseline}"
    references = {s.method for s in ranking.standings if is_reference(s.method)}
    rows = ranking_rows(
        ranking, board.horizons, board.at_horizons, board.pairwise, references=references
    )
    print_table(rows, title=title)
    print_notes(notes)
    if csv is not None:
        _write_csv(csv, board.table)


def _print_pairs(
    pairs: Pairwise,
    errors: RunErrors,
    ranking: Ranking,
    what: str,
    notes: list[str],
    csv: Path | None,
    **about: str,
) -> None:
    """Print every method against every other."""
    from weightcast.bench.results.inference.friedman import friedman_runs
    from weightcast.bench.results.pairs_table import pairs_notes, pairs_rows, pairs_table

    found = friedman_runs(errors.only(pairs.methods), ranking.baseline)
    order = [s.method for s in ranking.standings]
    print_table(pairs_rows(order, pairs, found), title=f"{what}; method against method")
    print_notes([*pairs_notes(found), *notes])
    if csv is not None:
        _write_csv(csv, pairs_table(order, pairs, found, **about))


def _print_ranking(
    results: Results,
    kind: str,
    csv: Path | None,
    errors: Path | None,
    *,
    metric: str | None,
    datasets: list[str] | None,
    **options: Any,
) -> None:
    """Print a folder's ranking, or the table of it that is asked for by an option's name."""
    from weightcast.bench.commands.info import ranking_rows
    from weightcast.bench.results import apart
    from weightcast.bench.results.absent import absent_tiers
    from weightcast.bench.results.leaderboard import board_table, rank_results
    from weightcast.bench.results.mixed import mixed_note
    from weightcast.bench.results.run_csv import run_table

    board = rank_results(results, metric=metric, datasets=datasets, **options)
    ranking = board.ranking
    if errors is not None:
        _write_csv(errors, run_table(board.errors, board.tier, board.metric))
    mixed = mixed_note(results.machines, results.packages_used())
    said, notes = f"{board.tier} tier, {board.spoken}", [*board.notes, mixed]
    if board.tier == "function":
        notes += absent_tiers(results, "function")
    if kind == "--pairs":
        about = {"tier": board.tier, "metric": board.metric}
        _print_pairs(board.pairwise, board.errors, ranking, said, notes, csv, **about)
        return
    if kind == "--by-dataset":
        table = apart.by_dataset(results, board, **options)
        rows = apart.terminal_rows(table)
    elif kind == "--by-horizon":
        table = apart.by_horizon(board)
        rows = apart.horizon_rows(table)
    elif kind in _BY_PART:
        table = apart.by_part(board, _BY_PART[kind])
        rows = apart.part_rows(table, _BY_PART[kind])
        notes = [*notes, *apart.part_notes(table, _BY_PART[kind], board.datasets)]
    else:
        table = board_table(board)
        rows = ranking_rows(
            ranking,
            board.horizons,
            board.at_horizons,
            board.pairwise,
            board.at_length.skills if board.at_length else None,
            results.references,
        )
    by = f", {kind.removeprefix('--').replace('-', ' ')}" if kind else ""
    print_table(rows, title=f"{said}{by}; skill against {ranking.baseline}")
    print_notes(notes)
    if csv is not None:
        _write_csv(csv, table)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    from weightcast.bench.results.csv_cells import csv_text
    from weightcast.datasets.files.partial_file import write_text

    write_text(path, csv_text(table))


def _one_table(asked: dict[str, bool]) -> str:
    """Return the option that asks for another table than the ranking; empty without one."""
    first, *more = [name for name, given in asked.items() if given] or [""]
    if more:
        raise InputError(f"{first} and {more[0]} are two tables; leave one out")
    return first


def _refuse(given: list[str], what: str) -> None:
    if given:
        one = len(given) == 1
        raise InputError(
            f"{' and '.join(given)} {'is' if one else 'are'} not for {what}; "
            f"leave {'it' if one else 'them'} out"
        )


def _refuse_loop_options(readout: str | None, target: str | None) -> None:
    if readout or target:
        raise InputError("--readout and --target are for --tier loop; leave them out or add it")


def _print_loop(
    results: Results, metric: str | None, readout: str, target: str, csv: Path | None
) -> None:
    from weightcast.bench.loop.board import board_table, loop_board, terminal_tables
    from weightcast.bench.results.absent import absent_tiers
    from weightcast.bench.results.mixed import mixed_note

    absent = absent_tiers(results, "loop")
    if absent and not results.loops:
        raise InputError("; ".join(absent))
    board = loop_board(results.loops, readout=readout, kind=metric or "train_loss", target=target)
    for title, rows in terminal_tables(board):
        print_table(rows, title=title)
    mixed = mixed_note(results.machines, results.packages_used())
    print_notes([*board.notes, *absent, mixed])
    if csv is not None:
        _write_csv(csv, board_table(board))


def _print_native(source: Path, track: str, split: str, csv: Path | None) -> None:
    from weightcast.bench.results.native import BESIDE_NATIVE, native_standings, native_table
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
    print_table(
        [{k: "—" if v == "nan" else v for k, v in row.items()} for row in rows],
        title="weights tier at native horizons: median over runs of error over distance moved",
    )
    print_notes(notes)
    if csv is not None:
        _write_csv(csv, native_table(standings))


@app.command()
@clear_errors
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A result folder, or several.", metavar="DIR...")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="By default report.html, .md or .tex in DIR; of several folders a folder, for "
            "index.html and a page each."
        ),
    ] = None,
    format: Annotated[
        ReportFormat,
        typer.Option(
            help="html is the page; markdown, for a pull request, and latex, for a paper, are its "
            "rankings."
        ),
    ] = ReportFormat.html,
) -> None:
    """Write the report, an HTML page by default, and print its path."""
    from weightcast.bench.commands.arguments import check_output_file
    from weightcast.bench.results.tables import load_results
    from weightcast.reports.write import write_page, write_pages, write_text_format

    if len(folders) > 1:
        if format is not ReportFormat.html:
            raise InputError(f"--format {format.value} is of one folder; name one, or leave it out")
        if out is None:
            raise InputError("several folders need --out, a folder for index.html and their pages")
        index, notes = write_pages(folders, out)
        typer.echo(str(index))
        print_notes(notes)
        return
    (folder,) = folders
    check_output_file("--out", out)
    if format is not ReportFormat.html:
        typer.echo(str(write_text_format(load_results(folder), format.value, out)))
        return
    path, reason = write_page(load_results(folder), out)
    typer.echo(str(path))
    if reason:
        typer.echo(f"weightcast: nothing here is ranked: {printable(reason)}", err=True)
        raise typer.Exit(1)


@app.command()
@clear_errors
def export(
    folder: ResultFolder,
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file to write.")],
) -> None:
    """Write one row per cell and tier."""
    from weightcast.bench.commands.arguments import check_output_file
    from weightcast.bench.results.tables import export_cells, load_results

    check_output_file("FILE", file)
    if file.suffix not in (".csv", ".parquet"):
        raise InputError(f"{file} must end in .csv or .parquet")
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
    from weightcast.bench.commands.arguments import check_output_folder
    from weightcast.bench.commands.merge import merge_folders

    check_output_folder("--out", out)
    merged = merge_folders(folders, out)
    for note in merged.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(merged.line())
