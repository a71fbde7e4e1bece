"""Recording a data set's runs, several side by side."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from weightcast.bench.progress import progress_bar
from weightcast.datasets import InputError, Recipe, RecordedDataSet, get_dataset
from weightcast.datasets.dataset import default_data_folder


def record_dataset(name: str, seeds: str | None, out: Path | None, jobs: int) -> int:
    """Record the runs that are not in the folder yet; return how many were.

    Parameters
    ----------
    name : str
    seeds : str or None
        E.g. ``"0-11"``; all of the data set's by default.
    out : Path or None
        The data folder.
    jobs : int

    Raises
    ------
    InputError
        If the data set is unknown or generated, the seeds make no sense, or the folder cannot be
        written to.
    """
    dataset = get_dataset(name)
    if not isinstance(dataset, RecordedDataSet) or dataset.recipe is None:
        raise InputError(f"{name} is generated when it is needed; there is nothing to record")
    wanted = parse_seeds(seeds) if seeds else list(dataset.seeds)
    folder = (out or default_data_folder()) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
    missing = [seed for seed in wanted if not (folder / f"{seed}.safetensors").exists()]
    recipe = dataset.recipe
    with progress_bar(f"recording {name}", len(missing)) as advance:
        if jobs == 1:
            for seed in missing:
                _record(recipe, seed, folder)
                advance(f"seed {seed}")
        elif missing:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context) as pool:
                futures = {pool.submit(_record, recipe, seed, folder): seed for seed in missing}
                for future in as_completed(futures):
                    future.result()
                    advance(f"seed {futures[future]}")
    return len(missing)


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``0-11`` or ``0,3,5-7``.

    Raises
    ------
    InputError
        If the text is not of that form.
    """
    seeds: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise InputError(f"seeds '{text}' are not of the form 0-11 or 0,3,5-7")
        seeds |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    return sorted(seeds)


def _record(recipe: Recipe, seed: int, folder: Path) -> None:
    from weightcast.datasets.recorder import record_run

    record_run(recipe, seed, folder / f"{seed}.safetensors")
