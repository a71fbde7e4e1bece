"""Recording a data set's runs, several side by side."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightcast.bench.engine.processes.forks import settle_worker, worker_context, worker_pool
from weightcast.bench.progress.bar import Advance, duration, progress_bar
from weightcast.datasets import InputError, Recipe, RecordedDataSet, get_dataset
from weightcast.datasets.dataset import default_data_folder
from weightcast.datasets.files.partial_file import remove_stale

#: What is left free on a disk: a full one breaks more than a recording.
SPARE_BYTES = 200 * 2**20
#: Seconds between looks at what the workers have done.
_POLL = 0.2
#: Seconds within which the pool sees a worker's end.
_NOTICED = 1.0
#: Seeds that one call records at most.
_MOST_SEEDS = 100_000


class RecordingFailed(InputError):
    """Some runs failed; the others are recorded."""


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
        Runs side by side, each in a process of its own with one thread.

    Raises
    ------
    InputError
        If the data set is unknown or generated, the seeds make no sense, its data have yet to be
        fetched, the folder cannot be written to, or the disk is too full.
    RecordingFailed
        If runs failed, naming each; the others are recorded.
    """
    dataset = get_dataset(name)
    if not isinstance(dataset, RecordedDataSet):
        raise InputError(f"{name} is generated when it is needed; there is nothing to record")
    if dataset.recipe is None:
        raise InputError(f"{name} has no recipe; its runs were made elsewhere")
    wanted = parse_seeds(seeds) if seeds else list(dataset.seeds)
    dataset.recipe.require()
    folder = (out or default_data_folder()) / dataset.folder
    _prepare(folder)
    missing = [seed for seed in wanted if not (folder / f"{seed}.safetensors").exists()]
    if not missing:
        return 0
    _check_disk(dataset, len(missing), folder)
    print(
        f"recording {len(missing)} runs of {name} into {folder}: about "
        f"{duration(dataset.seconds_per_run * len(missing) / min(jobs, len(missing)))}, "
        f"{dataset.bytes_per_run * len(missing) / 2**20:.1f} MiB",
        file=sys.stderr,
    )
    units = len(missing) * (len(dataset.recipe.snapshot_steps) - 1)
    with progress_bar(f"recording {name}", units) as advance:
        record = _one_by_one if jobs == 1 else _side_by_side
        try:
            failed = record(dataset.recipe, missing, folder, min(jobs, len(missing)), advance)
        finally:
            remove_stale(folder)  # of workers that were ended
    if failed:
        reasons = "; ".join(f"seed {seed}: {error}" for seed, error in sorted(failed.items()))
        raise RecordingFailed(
            f"{len(failed)} of {len(missing)} runs of {name} failed, the others are recorded: "
            f"{reasons}"
        )
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
        # Eighteen digits stay within 64 bits.
        found = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise InputError(f"seeds '{text[:60]}' are not of the form 0-11 or 0,3,5-7")
        part_seeds = range(int(found[1]), int(found[2] or found[1]) + 1)
        if len(seeds) + len(part_seeds) > _MOST_SEEDS:
            raise InputError(f"seeds '{text[:60]}' are more than {_MOST_SEEDS:,}; name fewer")
        seeds.update(part_seeds)
    return sorted(seeds)


def _prepare(folder: Path) -> None:
    """Make the folder and clear away what killed recordings left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
    # Another recording may be at work in the same folder, on other seeds.
    remove_stale(folder)


def _check_disk(dataset: RecordedDataSet, runs: int, folder: Path) -> None:
    needed = dataset.bytes_per_run * runs + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{runs} runs of {dataset.name} need {needed / 2**20:,.0f} MiB on the disk of "
            f"{folder}, {SPARE_BYTES / 2**20:.0f} of them to spare; {free / 2**20:,.0f} MiB are "
            "free. Free some, name another folder with --out, or record fewer --seeds at a time"
        )


def _one_by_one(
    recipe: Recipe, seeds: list[int], folder: Path, jobs: int, advance: Advance
) -> dict[int, str]:
    failed = {}
    for seed in seeds:
        progress = _progress(recipe, seed, advance)
        try:
            _record(recipe, seed, folder, progress)
        except Exception as error:
            failed[seed] = _reason(error)
            progress(recipe.steps)
    return failed


def _side_by_side(
    recipe: Recipe, seeds: list[int], folder: Path, jobs: int, advance: Advance
) -> dict[int, str]:
    context = worker_context()
    shared = _Shared(context.RawArray("q", len(seeds)), context.RawArray("q", len(seeds)))
    lost = _Lost(shared.pids)
    progress = [_progress(recipe, seed, advance) for seed in seeds]
    pending: dict[Future[None], int] = {}
    failed = {}
    with worker_pool(jobs, _start_worker, (shared,)) as pool:
        for index, seed in enumerate(seeds):
            pending[pool.schedule(_record_in_worker, args=(recipe, seed, folder, index))] = index
        while pending:
            gone = lost.among(list(pending.values()), pool.active)
            done = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED).done
            for step, said in zip(shared.steps, progress, strict=True):
                said(step)
            for future, index in list(pending.items()):
                if future not in done and index not in gone:
                    continue
                del pending[future]
                progress[index](recipe.steps)
                if future not in done:
                    failed[seeds[index]] = "its process ended before it was through"
                elif error := future.exception():
                    failed[seeds[index]] = _reason(error)
        if lost.any:
            pool.stop()  # type: ignore[no-untyped-call]  # it would wait for them
    return failed


@dataclass(frozen=True)
class _Shared:
    """What workers write and this process reads, run by run.

    No lock: a worker that dies with one would stop all others.
    """

    steps: Any
    #: The process that records the run; 0 before it began.
    pids: Any


class _Lost:
    """Runs that will not be finished although their pool still waits for them.

    It counts an end with status 0 as no failure, and once it is broken it forgets what it was
    handed last.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._since: dict[int, float] = {}
        self.any = False

    def among(self, pending: Iterable[int], active: bool) -> set[int]:
        """Return the lost ones of some runs, given whether the pool is not broken."""
        import psutil

        now = time.monotonic()
        for index in pending:
            pid = self._pids[index]
            if not (psutil.pid_exists(pid) if pid else active):
                self._since.setdefault(index, now)
        found = {i for i in pending if now - self._since.get(i, now) > _NOTICED}
        self.any |= bool(found)
        return found


def _progress(recipe: Recipe, seed: int, advance: Advance) -> Callable[[int], None]:
    """Make what turns a run's steps into units of progress, a snapshot each, none twice."""
    seen = 0

    def progress(step: int) -> None:
        nonlocal seen
        while seen < step // recipe.snapshot_every:
            seen += 1
            advance(f"seed {seed}, step {seen * recipe.snapshot_every:,} of {recipe.steps:,}")

    return progress


def _reason(error: BaseException) -> str:
    from pebble import ProcessExpired

    if isinstance(error, ProcessExpired):
        return f"its process died with status {error.exitcode}"
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


_shared: Any = None


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    settle_worker()


def _record_in_worker(recipe: Recipe, seed: int, folder: Path, index: int) -> None:
    _shared.pids[index] = os.getpid()

    def on_step(step: int) -> None:
        _shared.steps[index] = step

    _record(recipe, seed, folder, on_step)


def _record(recipe: Recipe, seed: int, folder: Path, on_step: Callable[[int], None]) -> None:
    from weightcast.datasets.recorded.recorder import record_run

    record_run(recipe, seed, folder / f"{seed}.safetensors", on_step)
