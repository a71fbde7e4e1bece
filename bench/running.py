"""`weightcast run`: from the words on the command line to a finished result folder."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from weightcast.bench.environment import describe_environment, write_environment
from weightcast.bench.files import write_text
from weightcast.bench.plan import RunCache, make_plan
from weightcast.bench.progress import progress_bar
from weightcast.bench.recording import record_dataset
from weightcast.bench.store import Store
from weightcast.bench.suite import Suite, load_suite
from weightcast.datasets import DataSet, InputError, RecordedDataSet, get_dataset
from weightcast.datasets.gates import set_gates


class Interrupted(Exception):
    """The run was stopped from the keyboard; what was finished is stored."""


@dataclass
class RunOptions:
    """What the command line asked for; see `weightcast.bench.cli.run`."""

    suite: str
    out: Path
    methods: list[str] | None = None
    datasets: list[str] | None = None
    extra_methods: list[str] = field(default_factory=list)
    plugins: list[Path] = field(default_factory=list)
    data: Path | None = None
    jobs: int | None = None
    tuning: bool = True
    record: bool = False
    skip_missing: bool = False
    command: list[str] = field(default_factory=list)


def run_suite(options: RunOptions) -> int:
    """Run what the folder lacks of a suite; return the number of failed cells among the plan's.

    Raises
    ------
    InputError
        For anything that the user can mend; nothing is written before the arguments are checked.
    Interrupted
        On Ctrl-C.
    """
    suite = load_suite(options.suite)
    names = options.methods
    if options.extra_methods:
        names = [entry.name for entry in suite.resolve().methods] + options.extra_methods
        names = list(dict.fromkeys(names))
    suite = suite.resolve(names, options.datasets)
    if not options.tuning:
        suite = suite.model_copy(update={"tuning": 0})
    suite = _with_data(suite, options)
    runs = RunCache(options.data)
    plan = make_plan(suite, runs)
    jobs = options.jobs or suite.jobs
    with Store(options.out, create=True) as store, _only_writer(options.out):
        if store.suite not in (None, suite.name):
            raise InputError(
                f"{options.out} holds results of the suite '{store.suite}'; "
                f"use another folder for '{suite.name}'"
            )
        # Imported late: it brings the worker pool, which no check above needs.
        from weightcast.bench.job import THREADS
        from weightcast.bench.runner import run_plan

        store.drop_other_splits(plan)
        finished = store.finished()
        missing = sum(fit.key not in finished for fit in plan)
        print(
            f"{len(plan) - missing} of {len(plan)} fits are here, {missing} to run", file=sys.stderr
        )
        if missing:
            write_text(options.out / "suite.toml", suite.to_toml())
            write_environment(options.out, describe_environment(options.command, jobs, THREADS))
            _check_gates(suite, runs, store)
            try:
                with progress_bar(f"suite {suite.name}", missing) as advance:
                    run_plan(
                        plan,
                        store,
                        jobs=jobs,
                        plugins=options.plugins,
                        data=options.data,
                        advance=advance,
                    )
            except KeyboardInterrupt:
                left = len(plan) - len(store.finished() & {fit.key for fit in plan})
                raise Interrupted(
                    f"interrupted with {left} fits to go; the same command resumes"
                ) from None
        return store.failed_cells({fit.key for fit in plan})


def _check_gates(suite: Suite, runs: RunCache, store: Store) -> None:
    """Take the admission gates of data sets that are new here or have changed."""
    for name in sorted(
        {*suite.datasets, *(s.train for s in suite.shifts), *(s.test for s in suite.shifts)}
    ):
        found = runs.all(name)
        data = hashlib.sha256("".join(run.content_hash() for run in found).encode()).hexdigest()
        if store.gates_of(name) != data:
            store.set_gates(name, data, set_gates(found, get_dataset(name).track))


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the result folder for this run; a second run at the same time is turned away."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is writing to {folder}; wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _require_data(dataset: DataSet, suite: Suite) -> None:
    """See that what recorded networks are measured on is here; forecasts of weights do without."""
    if isinstance(dataset, RecordedDataSet) and dataset.recipe and "function" in suite.tiers:
        dataset.recipe.require()


def _with_data(suite: Suite, options: RunOptions) -> Suite:
    """See that every data set's runs are here: record them, leave them out, or stop."""
    kept = []
    shifted = [name for shift in suite.shifts for name in (shift.train, shift.test)]
    for name in dict.fromkeys([*suite.datasets, *shifted]):
        dataset = get_dataset(name)
        missing = dataset.missing(options.data)
        if missing and isinstance(dataset, RecordedDataSet):
            if options.record:
                seeds = ",".join(map(str, missing))
                record_dataset(name, seeds, options.data, options.jobs or suite.jobs)
            elif options.skip_missing:
                print(f"left out: {dataset.how_to_record(missing)}", file=sys.stderr)
                continue
            else:
                raise InputError(
                    f"{dataset.how_to_record(missing)}; --record does it, --skip-missing goes on "
                    "without it"
                )
        try:
            _require_data(dataset, suite)
        except InputError as error:
            if not options.skip_missing:
                raise
            print(f"left out: {name}: {error}", file=sys.stderr)
            continue
        kept.append(name)
    if not kept:
        raise InputError("no data set is left to run on")
    update = {
        "datasets": [name for name in suite.datasets if name in kept],
        "shifts": [s for s in suite.shifts if s.train in kept and s.test in kept],
    }
    return suite.model_copy(update=update)
