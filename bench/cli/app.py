"""What all verbs share: the application, its options, how errors and tables are printed."""

from __future__ import annotations

import errno
import functools
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from weightcast.bench.cli.stopping import Terminated, asked_to_stop, stopped_for_sure
from weightcast.bench.printable import printable
from weightcast.datasets.errors import InputError

#: What Typer raises where words cannot be read; it names the base of the errors of single options.
_Misread: Any = typer.BadParameter.__base__


class _Verbs(TyperGroup):
    """The verbs; words that cannot be read end in one line, like any other bad input."""

    def invoke(self, ctx: Any) -> Any:
        with _in_one_line():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _in_one_line():
            return super().make_context(*args, **more)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except _Misread as error:
        said = error.format_message().replace("Value error, ", "")
        if len(said.splitlines()) != 1:  # no verb at all: the help is the answer
            raise
        about = error.ctx.command_path if error.ctx is not None else "weightcast"
        typer.echo(f"weightcast: {printable(said.rstrip('.'))}; see {about} --help", err=True)
        raise typer.Exit(2) from None


class Device(StrEnum):
    """Where networks are trained and measured."""

    cpu = "cpu"
    cuda = "cuda"


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Benchmark methods that forecast the weights of a neural network from the start of its "
    "training run.",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("weightcast"))
        raise typer.Exit()


@app.callback()
def weightcast(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take what is said before the verb."""


#: What a person can mend where a file is opened; any other error is a fault of ours.
_MENDABLE = (
    errno.EACCES, errno.EDQUOT, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `InputError` into its one line and exit status 2; Ctrl-C ends with 130."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            _end_if_asked()
            first, *more = map(printable, error.lines)
            typer.echo(f"weightcast: {first}{':' if more else ''}", err=True)
            for line in more:
                typer.echo(f"  {line}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            _end_if_asked()
            said = f"{error.filename or 'a file'}: {error.strerror}"
            typer.echo(f"weightcast: {printable(said[:300])}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            typer.echo("weightcast: interrupted", err=True)
            number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
            raise typer.Exit(128 + number) from None

    return wrapped


def _end_if_asked() -> None:
    """End as interrupted where an interrupt became somebody else's error."""
    if number := asked_to_stop():
        typer.echo("weightcast: interrupted", err=True)
        raise typer.Exit(128 + number) from None


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without a letter of a name gets it as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is not threading.main_thread():
        app(prog_name="weightcast")
        return
    with stopped_for_sure():
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
    """Print rows as a table, a column a key: laid out for a terminal, else a line a row."""
    names = list(rows[0]) if rows else []
    numeric = {n for n in names if all(isinstance(row[n], int | float) for row in rows)}
    cells = [[printable(str(row[name])) for name in names] for row in rows]
    if sys.stdout.isatty():
        _print_for_terminal(names, cells, numeric, title)
    else:
        _print_lines(names, cells, numeric, title)


def _print_for_terminal(
    names: list[str], cells: list[list[str]], numeric: set[str], title: str | None
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from weightcast.bench.cli.table import Column, fit, lines, whole_width

    console = Console()
    columns = [
        Column(printable(name), [row[place] for row in cells]) for place, name in enumerate(names)
    ]
    kept, gone = fit(columns, console.width)
    # Text is shown as it is: square brackets in a name are no markup.
    shown = None if title is None else Text(printable(title), "table.title")
    table = Table(title=shown, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in kept:
        justify: Literal["left", "right"] = "right" if column.name in numeric else "left"
        head = Text(lines(column.name, column.width))
        table.add_column(head, justify=justify, no_wrap=True, width=column.width)
    for row in range(len(cells)):
        table.add_row(*(Text(lines(column.cells[row], column.width)) for column in kept))
    console.print(table, crop=False)
    if gone:
        typer.echo(
            f"left out at {console.width} characters a line: {', '.join(gone)}; "
            f"{whole_width(columns)} show all, and so does a pipe"
        )


def _print_lines(
    names: list[str], cells: list[list[str]], numeric: set[str], title: str | None
) -> None:
    lines = [[printable(name) for name in names], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if title:
        typer.echo(printable(title))
    for line in lines:
        padded = (
            cell.rjust(width) if name in numeric else cell.ljust(width)
            for name, cell, width in zip(names, line, widths, strict=True)
        )
        typer.echo("  ".join(padded).rstrip())


def print_notes(notes: Iterable[str]) -> None:
    """Print what a reader must know, a line a note; empty ones are none."""
    for note in notes:
        if note:
            typer.echo(f"note: {printable(note)}")
