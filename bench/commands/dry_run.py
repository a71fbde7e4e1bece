"""`weightcast run --dry-run`: what would run, how long it would take, and what is missing.

Nothing is written. Data sets that are here are planned as a run plans them, so what would be
refused is; of those that are missing, cells are counted.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightcast.bench.commands.run import RunOptions, asked_suite
from weightcast.bench.engine.store.store import NAME, Store
from weightcast.bench.plan.fits import Fit, make_plan, repeats_of
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.loop_groups import first_grids, loop_groups, trained
from weightcast.bench.plan.loop_settings import recipe_of
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import Suite
from weightcast.bench.progress.bar import duration, size_text
from weightcast.datasets import DataSet, InputError, RecordedDataSet, get_dataset
from weightcast.datasets.dataset import default_data_folder, seed_ranges

#: Result folders beside the one that is asked for, in which it is looked how long cells took.
_FOLDERS = 8
_TOOK = """
SELECT fits.method, fits.params, fits.dataset,
    (SELECT avg(fit_seconds) FROM fits AS f WHERE f.method = fits.method AND f.params = fits.params
     AND f.dataset = fits.dataset) AS fit,
    avg(cells.cell_seconds) AS cell
FROM cells JOIN fits ON cells.fit = fits.key WHERE cells.status = 'ok'
GROUP BY fits.method, fits.params, fits.dataset
"""


@dataclass
class _Part:
    """What a suite asks for on one data set.

    Attributes
    ----------
    missing : tuple of int
        Seeds of recorded runs that are not here.
    why_not : str
        What its recipe lacks, with the command that fetches it.
    fits, cells, trainings : int
        Trainings are those of the loop tier.
    stored : int
        Cells and trainings that the folder has.
    to_run : dict
        (method's label) → (fits, cells) that are still to run.
    training_seconds : float
        What plain training takes of the trainings that are still to run.
    """

    dataset: DataSet
    missing: tuple[int, ...] = ()
    why_not: str = ""
    fits: int = 0
    cells: int = 0
    trainings: int = 0
    stored: int = 0
    to_run: dict[str, tuple[int, int]] = field(default_factory=dict)
    training_seconds: float = 0.0

    @property
    def recording(self) -> tuple[float, int]:
        """Seconds and bytes that recording what is missing takes."""
        if not isinstance(self.dataset, RecordedDataSet):
            return 0.0, 0
        runs = len(self.missing)
        return self.dataset.seconds_per_run * runs, self.dataset.bytes_per_run * runs


def dry_run(options: RunOptions) -> tuple[list[dict[str, Any]], list[str]]:
    """Say what a run would do.

    Returns
    -------
    list of dict
        A row a data set.
    list of str
        What is to be said below them.

    Raises
    ------
    InputError
        Where the run would be refused for more than data that are missing.
    """
    suite = asked_suite(options)
    finished = _finished(options, suite)
    jobs = 1 if options.timing else options.jobs or suite.jobs
    parts: dict[str, _Part] = {}
    if set(suite.tiers) != {"loop"}:
        parts = _forecasts(suite, options, finished)
    if "loop" in suite.tiers:
        _loops(suite, finished, parts)
    rows = [_row(part, "loop" in suite.tiers) for part in parts.values()]
    return rows, list(_below(suite, options, parts, jobs))


def _finished(options: RunOptions, suite: Suite) -> set[str]:
    if not (options.out / NAME).exists():
        return set()
    with Store(options.out, read_only=True) as store:
        if store.suite not in (None, suite.name):
            raise InputError(
                f"{options.out} holds results of the suite '{store.suite}'; "
                f"use another folder for '{suite.name}'"
            )
        return store.finished(timed=options.timing, retry=options.retry_failed)


def _forecasts(suite: Suite, options: RunOptions, finished: set[str]) -> dict[str, _Part]:
    """Plan the fits of data sets that are here, and count those of the others."""
    shifted = [name for shift in suite.shifts for name in (shift.train, shift.test)]
    parts: dict[str, _Part] = {}
    for name in dict.fromkeys([*suite.datasets, *shifted]):
        dataset = get_dataset(name)
        part = parts[name] = _Part(dataset, dataset.missing(options.data))
        # A recording needs what its recipe does, and so does the measuring of networks.
        if "function" in suite.tiers or part.missing:
            part.why_not = _lacks(dataset)
    here = [name for name, part in parts.items() if not part.missing]
    plan = make_plan(_narrowed(suite, here), RunCache(options.data))
    for name, part in parts.items():
        fits = [fit for fit in plan if fit.place.dataset == name]
        part.fits, part.cells = len(fits), sum(len(fit.cells) for fit in fits)
        part.stored = sum(len(fit.cells) - len(fit.missing(finished)) for fit in fits)
        part.to_run = _by_method(fits, finished)
    for name in (name for name in suite.datasets if name not in here):
        places = 1 + len(suite.windows) + len(set(suite.train_runs))
        _count(suite, parts[name], places)
    for shift in suite.shifts:
        if not {shift.train, shift.test} <= set(here):
            _count(suite, parts[shift.test], 1)
    return parts


def _narrowed(suite: Suite, here: Sequence[str]) -> Suite:
    return suite.model_copy(
        update={
            "datasets": [name for name in suite.datasets if name in here],
            "shifts": [s for s in suite.shifts if s.train in here and s.test in here],
        }
    )


def _by_method(fits: Sequence[Fit], finished: set[str]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for fit in fits:
        if left := len(fit.missing(finished)):
            label = method_label(fit.method, fit.params)
            before = found.get(label, (0, 0))
            found[label] = before[0] + 1, before[1] + left
    return found


def _count(suite: Suite, part: _Part, places: int) -> None:
    """Add the fits and cells of so many tasks a context on a data set whose runs are not here."""
    tasks = places * len(suite.contexts)
    for entry in suite.methods:
        fits = tasks * suite.rotations * repeats_of(suite, entry)
        cells = tasks * len(part.dataset.seeds) * repeats_of(suite, entry)
        label = method_label(entry.name, entry.params_json)
        before = part.to_run.get(label, (0, 0))
        part.to_run[label] = before[0] + fits, before[1] + cells
        part.fits, part.cells = part.fits + fits, part.cells + cells


def _loops(suite: Suite, finished: set[str], parts: dict[str, _Part]) -> None:
    """Count the loop tier's trainings; grids of learning rates may grow beyond them."""
    for name in trained(suite):
        part = parts.setdefault(name, _Part(get_dataset(name)))
        recipe = recipe_of(name)
        part.why_not = part.why_not or _lacks(part.dataset)
        if part.why_not:
            continue
        alone = suite.model_copy(update={"datasets": [name]})
        runs = [run for group in loop_groups(alone, first_grids(alone)) for run in group.runs]
        left = sum(run.key not in finished for run in runs)
        part.trainings += len(runs)
        part.stored += len(runs) - left
        seconds = getattr(part.dataset, "seconds_per_run", 0.0)
        part.training_seconds += left * seconds * suite.loop.steps / max(1, recipe.steps)


def _lacks(dataset: DataSet) -> str:
    """Say what a recipe needs that is not here; nothing where it is."""
    try:
        if isinstance(dataset, RecordedDataSet) and dataset.recipe:
            dataset.recipe.require()
    except InputError as error:
        return str(error)
    return ""


def _row(part: _Part, looped: bool) -> dict[str, Any]:
    """Return a data set's row; the loop tier alone needs no recorded runs."""
    name: dict[str, Any] = {"data set": part.dataset.name}
    if looped and not part.cells:
        return name | {"trainings": part.trainings, "stored": part.stored}
    seconds, size = part.recording
    runs = len(part.dataset.seeds)
    return {
        **name,
        "runs here": f"{runs - len(part.missing)} of {runs}",
        "fits": part.fits,
        "cells": part.cells,
        **({"trainings": part.trainings} if looped else {}),
        "stored": part.stored,
        "to record": f"{duration(seconds)}, {size_text(size)}" if part.missing else "",
    }


def _below(suite: Suite, options: RunOptions, parts: dict[str, _Part], jobs: int) -> Iterator[str]:
    """Say what all data sets come to, how long it takes, and what has to be made or fetched."""
    cells = sum(part.cells + part.trainings for part in parts.values())
    stored = sum(part.stored for part in parts.values())
    fits = sum(part.fits for part in parts.values())
    trainings = sum(part.trainings for part in parts.values())
    what = [f"{fits:,} fits with {cells - trainings:,} cells"] * bool(fits)
    what += [f"{trainings:,} trainings of the loop tier"] * bool(trainings)
    budget = f"tuning {suite.tuning}" if suite.tuning else "no tuning"
    yield (
        f"suite {suite.name}: {len(suite.methods)} methods, contexts "
        f"{', '.join(map(str, suite.contexts))}, {budget}; {' and '.join(what) or 'nothing'}: "
        f"{stored:,} are in {options.out}, {cells - stored:,} to run"
    )
    yield from _time(options.out, options.timeout or suite.timeout, parts, jobs, cells - stored)
    yield from _to_record(options, parts, jobs)
    for part in parts.values():
        if part.why_not:
            yield f"{part.dataset.name}: {part.why_not}"
    yield "nothing was run or written"


def _time(
    out: Path, timeout: float, parts: dict[str, _Part], jobs: int, left: int
) -> Iterator[str]:
    """Estimate seconds from cells of the same methods that have been run on this machine."""
    if not left:
        return
    took, folders = _took(out)
    by_method: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (label, _), means in took.items():
        by_method[label].append(means)
    seconds, known, elsewhere = 0.0, 0, 0
    unknown: set[str] = set()
    for name, part in parts.items():
        for label, (fits, cells) in part.to_run.items():
            others = by_method.get(label)
            if not others:
                unknown.add(label)
                continue
            mean = tuple(sum(each) / len(others) for each in zip(*others, strict=True))
            fit, cell = took.get((label, name), mean)
            elsewhere += cells * ((label, name) not in took)
            known += cells
            seconds += fits * fit + cells * cell
    training = sum(part.training_seconds for part in parts.values())
    if known:
        said = f"time: about {duration(seconds / jobs)} with {_jobs(jobs)}, as cells took in "
        said += ", ".join(map(str, folders))
        if elsewhere:
            said += f"; {elsewhere:,} of them on other data sets, which may differ by far"
        yield said
    if unknown:
        some = ", ".join(sorted(unknown)[:6]) + (
            f" and {len(unknown) - 6} more" * (len(unknown) > 6)
        )
        yield (
            f"time: not known of {some}: none of their cells was run into {out} or a folder "
            f"beside it; each fit and cell ends after {duration(timeout)} at the latest (--timeout)"
        )
    if training:
        yield (
            f"time: about {duration(training / jobs)} with {_jobs(jobs)} for the loop tier's "
            "training; forecasts and measuring come on top"
        )


def _took(out: Path) -> tuple[dict[tuple[str, str], tuple[float, float]], list[Path]]:
    """Return the mean seconds of fits and cells by method and data set, and where they are from."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    folders = []
    for folder in _result_folders(out):
        with suppress(InputError), Store(folder, read_only=True) as store:
            rows = store.rows(_TOOK)
            for row in rows:
                fit, cell = row["fit"] or 0.0, row["cell"]
                if isinstance(fit, float) and isinstance(cell, float):
                    label = method_label(str(row["method"]), str(row["params"]))
                    found.setdefault((label, str(row["dataset"])), (fit, cell))
            folders += [folder] * bool(rows)
    return found, folders


def _result_folders(out: Path) -> list[Path]:
    """Return the folder asked for and those beside it that hold results, the latest first."""
    beside = []
    with suppress(OSError):
        stores = [path for path in out.absolute().parent.glob(f"*/{NAME}") if path.is_file()]
        stores.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        beside = [out.parent / path.parent.name for path in stores]
    own = [folder for folder in beside if folder.name == out.absolute().name]
    return [*own, *(folder for folder in beside if folder not in own)][:_FOLDERS]


def _to_record(options: RunOptions, parts: dict[str, _Part], jobs: int) -> Iterator[str]:
    short = [part for part in parts.values() if part.missing]
    if not short:
        return
    seconds = sum(part.recording[0] for part in short)
    size = sum(part.recording[1] for part in short)
    folder = options.data or default_data_folder()
    yield (
        f"to record: {sum(len(part.missing) for part in short):,} runs of {len(short)} data sets, "
        f"about {duration(seconds / jobs)} with {_jobs(jobs)} and {size_text(size)}; "
        f"{size_text(_free(folder))} are free on the disk of {folder}"
    )
    for part in short:
        yield f"  weightcast record {part.dataset.name} --seeds {seed_ranges(part.missing)}"
    if options.skip_missing:
        yield "they are left out (--skip-missing)"
    elif not options.record:
        yield "without --record, which makes them, or --skip-missing the run is refused"


def _free(folder: Path) -> int:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _jobs(jobs: int) -> str:
    return f"{jobs} job{'s' * (jobs != 1)}"
