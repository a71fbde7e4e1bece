"""What all verbs share: the application, its options, how errors and tables are printed."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from weightcast.bench.printable import printable
from weightcast.datasets.errors import InputError

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
            typer.echo(f"weightcast: {printable(str(error))}", err=True)
            raise typer.Exit(2) from None

    return wrapped


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without a letter of a name gets it as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="weightcast")


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


def load_plugins(paths: list[Path] | None) -> list[str]:
    """Execute plugin files and return the names of the methods they register."""
    if not paths:
        return []
    from weightcast.methods import load_plugin

    return [name for path in paths for name in load_plugin(path)]


def print_table(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Print rows as a table, a column a key; names in it are no markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    shown = None if title is None else Text(printable(title), "table.title")
    table = Table(title=shown, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(rows[0] if rows else {}):
        numeric = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(
            Text(printable(name)), justify="right" if numeric else "left", no_wrap=index == 0
        )
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row.values()))
    console.print(table)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a reader must know, a line a note; empty ones are none."""
    for note in notes:
        if note:
            typer.echo(f"note: {printable(note)}")
