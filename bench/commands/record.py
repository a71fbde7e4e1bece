"""Recording a data set's runs, several side by side."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from weightcast.bench.engine.processes.forks import settle_worker, worker_context, worker_pool
from weightcast.bench.progress.bar import duration
from weightcast.bench.progress.step_progress import StepProgress, step_progress
from weightcast.datasets import InputError, Recipe, RecordedDataSet, get_dataset
from weightcast.datasets.dataset import default_data_folder, seed_ranges
from weightcast.datasets.files.partial_file import remove_stale
from weightcast.datasets.recorded.leftovers import clear_unfinished, unfinished_bytes

#: What is left free on a disk: a full one breaks more than a recording.
SPARE_BYTES = 200 * 2**20
#: Seconds between looks at what the workers have done.
_POLL = 0.2
#: Seconds within which the pool sees a worker's end.
_NOTICED = 1.0
#: In the place of a run's step until its training begins.
_NOT_BEGUN = -1
#: Seeds that one call records at most.
_MOST_SEEDS = 100_000


class RecordingFailed(InputError):
    """Some runs failed; the others are recorded."""


def record_dataset(
    name: str, seeds: str | None, out: Path | None, jobs: int, device: str = "cpu"
) -> int:
    """Record the runs that are not in the folder yet; return how many were.

    A long run that was broken off goes on from the last state that was saved of it.

    Parameters
    ----------
    name : str
    seeds : str or None
        E.g. ``"0-11"``; all of the data set's by default.
    out : Path or None
        The data folder.
    jobs : int
        Runs side by side, each in a process of its own with one thread.
    device : {"cpu", "cuda"}
        What they are trained on.

    Raises
    ------
    InputError
        If the data set is unknown or generated, the seeds make no sense, its data have yet to be
        fetched, there is no such device, the folder cannot be written to, or the disk is too full.
    RecordingFailed
        If runs failed, naming each; the others are recorded.
    """
    dataset = get_dataset(name)
    if not isinstance(dataset, RecordedDataSet):
        raise InputError(f"{name} is generated when it is needed; there is nothing to record")
    if dataset.recipe is None or dataset.untrainable:
        raise InputError(f"{name} {dataset.untrainable}")
    wanted = parse_seeds(seeds) if seeds else list(dataset.seeds)
    dataset.recipe.require()
    if device != "cpu":
        from weightcast.datasets.device import torch_device

        torch_device(device)
    folder = (out or default_data_folder()) / dataset.folder
    _prepare(folder)
    missing = [seed for seed in wanted if not _path(folder, seed).exists()]
    if not missing:
        return 0
    _check_disk(dataset, missing, folder, jobs)
    unfinished = [seed for seed in missing if unfinished_bytes(_path(folder, seed))]
    if unfinished:
        print(
            f"going on with what was left of {_named(unfinished)} when recording was broken off",
            file=sys.stderr,
        )
    jobs = min(jobs, len(missing))
    # What is known was measured on a CPU.
    each = dataset.seconds_per_run if device == "cpu" else 0.0
    took = each * len(missing) / jobs
    print(
        f"recording {len(missing)} runs of {name} into {folder}: "
        + (f"about {duration(took)}, " if took else "")
        + f"{dataset.size_of_run() * len(missing) / 2**20:.1f} MiB",
        file=sys.stderr,
    )
    recipe = dataset.recipe
    runs = StepProgress(
        [f"seed {seed}" for seed in missing],
        recipe.snapshot_steps[-1],
        recipe.snapshot_every,
        jobs,
        each,
    )
    with _saying_what_is_left(folder, missing), step_progress(f"recording {name}", runs):
        record = _one_by_one if jobs == 1 else _side_by_side
        try:
            failed = record(recipe, missing, folder, jobs, runs, device)
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
    clear_unfinished(folder)


def _check_disk(dataset: RecordedDataSet, seeds: Sequence[int], folder: Path, jobs: int) -> None:
    # The state that a run goes on from has the weights and two such of the optimizer's; a new one
    # is written beside the old.
    recipe = dataset.recipe
    snapshot = dataset.size_of_run() // len(recipe.snapshot_steps) if recipe else 0
    left = sum(unfinished_bytes(_path(folder, seed)) for seed in seeds)
    runs = dataset.size_of_run() * len(seeds) + 6 * snapshot * min(jobs, len(seeds)) - left
    needed = max(0, runs) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{len(seeds)} runs of {dataset.name} need {needed / 2**20:,.0f} MiB on the disk of "
            f"{folder}, {SPARE_BYTES / 2**20:.0f} of them to spare; {free / 2**20:,.0f} MiB are "
            "free. Free some, name another folder with --out, or record fewer --seeds at a time"
        )


@contextmanager
def _saying_what_is_left(folder: Path, seeds: Sequence[int]) -> Iterator[None]:
    """Say, where recording is stopped, what it will go on from."""
    try:
        yield
    except KeyboardInterrupt:
        left = [seed for seed in seeds if unfinished_bytes(_path(folder, seed))]
        if left:
            print(
                f"what is done of {_named(left)} is kept: the same command goes on with it",
                file=sys.stderr,
            )
        raise


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {seed_ranges(seeds)}"


def _path(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.safetensors"


def _one_by_one(
    recipe: Recipe, seeds: list[int], folder: Path, jobs: int, runs: StepProgress, device: str
) -> dict[int, str]:
    failed = {}
    for index, seed in enumerate(seeds):
        try:
            _record(recipe, seed, folder, partial(runs.at, index), device)
        except Exception as error:
            failed[seed] = _reason(error)
        runs.end(index)
    return failed


def _side_by_side(
    recipe: Recipe, seeds: list[int], folder: Path, jobs: int, runs: StepProgress, device: str
) -> dict[int, str]:
    context = worker_context()
    begun = [_NOT_BEGUN] * len(seeds)
    shared = _Shared(context.RawArray("q", begun), context.RawArray("q", len(seeds)))
    lost = _Lost(shared.pids)
    pending: dict[Future[None], int] = {}
    failed = {}
    with worker_pool(jobs, _start_worker, (shared,)) as pool:
        for index, seed in enumerate(seeds):
            pending[
                pool.schedule(_record_in_worker, args=(recipe, seed, folder, index, device))
            ] = index
        while pending:
            gone = lost.among(list(pending.values()), pool.active)
            done = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED).done
            for index, step in enumerate(shared.steps):
                if step != _NOT_BEGUN:
                    runs.at(index, step)
            for future, index in list(pending.items()):
                if future not in done and index not in gone:
                    continue
                del pending[future]
                runs.end(index)
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


def _record_in_worker(recipe: Recipe, seed: int, folder: Path, index: int, device: str) -> None:
    _shared.pids[index] = os.getpid()

    def on_step(step: int) -> None:
        _shared.steps[index] = step

    _record(recipe, seed, folder, on_step, device)


def _record(
    recipe: Recipe, seed: int, folder: Path, on_step: Callable[[int], None], device: str
) -> None:
    from weightcast.datasets.recorded.recorder import record_run

    record_run(recipe, seed, _path(folder, seed), on_step, device)
