"""`weightcast import`: which reader is meant, with the options that are its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weightcast.bench.commands.arguments import check_output_file, check_output_folder
from weightcast.bench.commands.record import parse_seeds
from weightcast.datasets import InputError
from weightcast.datasets.errors import unknown
from weightcast.datasets.importing.imported import Imported

#: What ``--format`` may name; all else is found out from the files.
NINO = "nino-mmap"


@dataclass(frozen=True)
class Asked:
    """What the command line asked for; see `weightcast.bench.cli.data.import_`."""

    source: Path
    out: Path | None = None
    dataset: str | None = None
    seed: int | None = None
    optimizer: str | None = None
    key: str = ""
    stage: str = ""
    layout: str | None = None
    runs: str | None = None
    every: int | None = None
    shape: str | None = None
    like: Path | None = None


def import_all(asked: Asked) -> list[Imported]:
    """Import one run, or those of a memory map.

    Raises
    ------
    InputError
        If an option is of the other kind of source, or the source is not what it was taken for.
    """
    if asked.layout not in (None, NINO):
        raise unknown("format", str(asked.layout), [NINO])
    if asked.layout == NINO:
        return _nino(asked)
    for option in ("runs", "every", "shape", "like"):
        if getattr(asked, option) is not None:
            raise InputError(f"--{option} is of --format {NINO}; leave it out, or add that")
    if asked.source.suffix.lower() == ".dat" and asked.source.is_file():
        raise InputError(
            f"{asked.source} is a file; where it is a memory map as NiNo's authors publish, add "
            f"--format {NINO}"
        )
    from weightcast.datasets.importing.run import import_run

    check_output_file("--out", asked.out)
    made = import_run(
        asked.source,
        asked.out,
        dataset=asked.dataset,
        seed=asked.seed,
        optimizer=asked.optimizer,
        key=asked.key,
        stage=asked.stage,
    )
    return [made]


def _nino(asked: Asked) -> list[Imported]:
    from weightcast.datasets.importing.nino import import_nino

    for option, value in (("key", asked.key), ("stage", asked.stage), ("seed", asked.seed)):
        if value not in ("", None):
            raise InputError(f"--{option} is not of --format {NINO}; leave it out")
    if asked.out is None:
        raise InputError(f"--format {NINO} writes trajectories elsewhere; give --out FOLDER")
    check = check_output_file if asked.out.suffix == ".safetensors" else check_output_folder
    check("--out", asked.out)
    return import_nino(
        asked.source,
        asked.out,
        runs=None if asked.runs is None else parse_seeds(asked.runs),
        every=asked.every or 1,
        shape=asked.shape or "",
        like=asked.like,
        dataset=asked.dataset,
        optimizer=asked.optimizer,
    )
