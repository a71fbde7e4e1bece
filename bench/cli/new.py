"""The verbs that write a package to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weightcast.bench.cli.app import app, clear_errors

if TYPE_CHECKING:
    from weightcast.bench.commands.new_package import NewPackage

Name = Annotated[
    str, typer.Argument(help="In kebab-case: what it is registered as.", metavar="NAME")
]
Out = Annotated[
    Path | None, typer.Option(help="The folder to make; by default ./NAME.", metavar="DIR")
]


@app.command("new-method")
@clear_errors
def new_method(name: Name, out: Out = None) -> None:
    """Write a package with a method that works, its test and its entry point."""
    from weightcast.bench.commands.new_package import METHOD, new_package

    _tell(new_package(METHOD, name, out))


@app.command("new-dataset")
@clear_errors
def new_dataset(name: Name, out: Out = None) -> None:
    """Write a package with a data set that works, its test and its entry point."""
    from weightcast.bench.commands.new_package import DATASET, new_package

    _tell(new_package(DATASET, name, out))


def _tell(made: NewPackage) -> None:
    typer.echo(f"{made.folder}: a package with the {made.kind.noun} {made.name}")
    for file in made.files:
        typer.echo(f"  {file}")
    typer.echo("next:")
    for command in made.commands():
        typer.echo(f"  {command}")
