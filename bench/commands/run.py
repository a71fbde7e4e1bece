"""`weightcast run`: from the words on the command line to a finished result folder."""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from weightcast.bench.commands.arguments import (
    check_count,
    check_data,
    check_jobs,
    check_memory,
    check_output_folder,
    check_seconds,
)
from weightcast.bench.commands.failures import failure_lines
from weightcast.bench.commands.record import record_dataset
from weightcast.bench.engine.environment import (
    describe_environment,
    describe_machine,
    read_environment,
    write_environment,
)
from weightcast.bench.engine.events import Event
from weightcast.bench.engine.processes.forks import THREADS
from weightcast.bench.engine.processes.limits import Limits, default_memory
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.store.store import LOCK, Store, StoreFailed, prepare
from weightcast.bench.engine.work import Work, in_turn
from weightcast.bench.loop.unit import LoopUnit
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.loop_groups import (
    first_grids,
    loop_groups,
    missing_groups,
    trained,
    widened,
)
from weightcast.bench.plan.loop_settings import no_tier, recipe_of
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import LARGEST, Suite, load_suite
from weightcast.bench.plan.united import with_earlier
from weightcast.bench.results.mixed import store_note
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import DataSet, InputError, RecordedDataSet, get_dataset
from weightcast.datasets.admission.gates import set_gates
from weightcast.datasets.files import system
from weightcast.datasets.files.partial_file import write_text


class Interrupted(Exception):
    """The run was stopped from the keyboard; what was finished is stored."""


class RunFailed(Exception):
    """The run could not go on; what was finished is stored."""


@dataclass
class RunOptions:
    """What the command line asked for; see `weightcast.bench.cli.run.run`."""

    suite: str
    out: Path
    methods: list[str] | None = None
    datasets: list[str] | None = None
    extra_methods: list[str] = field(default_factory=list)
    plugins: list[Path] = field(default_factory=list)
    data: Path | None = None
    jobs: int | None = None
    timeout: float | None = None
    max_memory: int | None = None
    scheduler: str | None = None
    device: str = "cpu"
    timing: bool = False
    retry_failed: bool = False
    tuning: int | None = None
    record: bool = False
    skip_missing: bool = False
    command: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Hold every argument to what can be done, before anything is read or planned.

        Raises
        ------
        InputError
            Naming the option as it is typed.
        """
        check_seconds("--timeout", self.timeout)
        check_memory("--max-memory", self.max_memory)
        check_count("--tuning", self.tuning, "configurations, 0 for defaults", 0, LARGEST)
        check_jobs("--jobs", self.jobs, None if self.max_memory else default_memory(1))
        check_output_folder("--out", self.out)
        if not self.record:
            check_data("--data", self.data)
        for option, names in (("--methods", self.methods), ("--datasets", self.datasets)):
            if names is not None and not names:
                raise InputError(f"{option} names none; give some, or leave it out")
        if self.scheduler == "":
            raise InputError("--scheduler is empty; give an address, e.g. tcp://10.0.0.1:8786")
        if self.timing and (self.scheduler or (self.jobs or 1) > 1):
            raise InputError("--timing runs one cell at a time; leave --jobs and --scheduler out")
        if self.scheduler and self.jobs:
            raise InputError(
                "--jobs is for this machine, --scheduler for a cluster; give one of them"
            )
        if self.record and self.skip_missing:
            raise InputError("--record and --skip-missing exclude each other; give one of them")


def run_suite(options: RunOptions) -> dict[str, int]:
    """Run what the folder lacks of a suite.

    Returns
    -------
    dict
        How many cells of the plan have each status.

    Raises
    ------
    InputError
        For anything that the user can mend; nothing is written before the arguments are checked.
    Interrupted
        On Ctrl-C.
    RunFailed
        If results cannot be written any more.
    """
    suite = asked_suite(options)
    looped = "loop" in suite.tiers
    cells = set(suite.tiers) != {"loop"}
    suite = _with_data(suite, options) if cells else _with_recipes(suite)
    runs = RunCache(options.data)
    plan = make_plan(suite, runs) if cells else []
    _say_what_has_no_checksums(suite, runs)
    if looped:
        _refuse_what_cannot_loop(suite)
    prepare(options.out)
    read_environment(options.out)  # it is written again: what is damaged is said before
    with only_writer(options.out), Store(options.out, create=True) as store:
        if store.suite not in (None, suite.name):
            raise InputError(
                f"{options.out} holds results of the suite '{store.suite}'; "
                f"use another folder for '{suite.name}'"
            )
        keys = {key for fit in plan for _, key in fit.cells}
        try:
            if cells:
                store.drop_other_splits(plan)
                finished = _finished(store, options)
                units = [Unit(fit, seeds) for fit in plan if (seeds := fit.missing(finished))]
                _say_what_is_missing("cells", len(keys), units)
                if units:
                    _check_gates(suite, runs, store)
                    run_units(units, suite, options, store)
            if looped:
                keys |= _run_loop(suite, options, store)
        except StoreFailed as error:
            raise RunFailed(
                f"{error}; what was finished before is stored, and the same command resumes"
            ) from None
        if note := store_note(store):
            print(f"note: {note}", file=sys.stderr)
        for line in failure_lines(store, keys, options.out):
            print(line, file=sys.stderr)
        return store.statuses(keys)


def asked_suite(options: RunOptions) -> Suite:
    """Return the suite with what the command line says instead.

    Raises
    ------
    InputError
        If the suite or a name is wrong, or no method can run on the device.
    """
    suite = load_suite(options.suite)
    names = options.methods
    if options.extra_methods:
        names = [entry.name for entry in suite.resolve().methods] + options.extra_methods
        names = list(dict.fromkeys(names))
    suite = suite.resolve(names, options.datasets)
    if options.tuning is not None:
        suite = suite.model_copy(update={"tuning": options.tuning})
    if options.device != "cpu":  # the CPU is what all methods take by default
        suite = suite.on_device(options.device)
        if not options.scheduler:
            from weightcast.datasets.device import torch_device

            torch_device(options.device)
    return suite


def _refuse_what_cannot_loop(suite: Suite) -> None:
    """Refuse what cannot run before anything does, and say what the loop tier leaves out."""
    here = trained(suite)
    for name in suite.datasets:
        if name not in here:
            why = no_tier("loop", name, get_dataset(name).no_network)
            print(f"note: {why}", file=sys.stderr)
    loop_groups(suite, first_grids(suite))


def _run_loop(suite: Suite, options: RunOptions, store: Store) -> set[str]:
    """Run the loop tier until no learning-rate grid has to grow; return its runs' keys."""
    from weightcast.bench.loop.scores import edges

    first = grids = first_grids(suite)
    while True:
        groups = loop_groups(suite, grids)
        keys = {run.key for group in groups for run in group.runs}
        units = [LoopUnit(group) for group in missing_groups(groups, _finished(store, options))]
        _say_what_is_missing("training runs", len(keys), units)
        if units:
            run_units(units, suite, options, store)
        rows = [row for row in store.loops() if row["key"] in keys]
        grown = widened(grids, edges(rows), first, suite.loop.widenings)
        if grown == grids:
            return keys
        for (dataset, optimizer), rates in grown.items():
            if new := [rate for rate in rates if rate not in grids[dataset, optimizer]]:
                print(
                    f"{dataset}: a best learning rate of {optimizer} is at the edge of the grid; "
                    f"all methods get {', '.join(f'{rate:g}' for rate in new)} too",
                    file=sys.stderr,
                )
        grids = grown


def _finished(store: Store, options: RunOptions) -> set[str]:
    return store.finished(timed=options.timing, retry=options.retry_failed)


def _say_what_is_missing(what: str, total: int, units: Sequence[Work]) -> None:
    missing = sum(len(unit.keys) for unit in units)
    print(f"{total - missing:,} of {total:,} {what} are here, {missing:,} to run", file=sys.stderr)


def run_units(units: Sequence[Work], suite: Suite, options: RunOptions, store: Store) -> None:
    """Run what is missing, in this machine's processes or on a cluster."""
    # Imported late: it brings the workers, which no check before needs.
    from weightcast.bench.engine.processes.inside import registered_by
    from weightcast.bench.engine.storing import store_all

    jobs = 1 if options.timing else options.jobs or suite.jobs
    limits = Limits(
        timeout=options.timeout or suite.timeout,
        max_memory=1_000_000 * options.max_memory if options.max_memory else default_memory(jobs),
    )
    plugins = tuple(options.plugins)
    setup = Setup(plugins, registered_by(plugins), options.data, device=options.device)
    stop = threading.Event()
    happening: Iterator[list[Event]]
    if options.scheduler:
        from weightcast.bench.engine.cluster import run_on_cluster

        happening, jobs = run_on_cluster(
            options.scheduler, in_turn(units), setup, limits, stop, not options.max_memory
        )
    else:
        from weightcast.bench.engine.local import run_here

        site = Site(describe_machine(options.device), jobs, THREADS)
        happening = run_here(in_turn(units), setup, limits, site, stop)
    asked = options.out / "suite.toml"
    write_text(asked, with_earlier(suite, asked).to_toml())
    environment = describe_environment(
        options.command,
        jobs,
        THREADS,
        options.device,
        timeout_seconds=limits.timeout,
        # On a cluster each worker has a share of its own machine's where nobody says more.
        max_memory_bytes=(
            None if options.scheduler and not options.max_memory else limits.max_memory
        ),
    )
    write_environment(options.out, environment)
    wanted = {key for unit in units for key in unit.keys}
    try:
        store_all(units, happening, store, stop, jobs)
    except KeyboardInterrupt:
        stop.set()
    if left := len(wanted - store.finished(timed=options.timing)):
        if reasons := store.reasons_to_try_again():
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            raise RunFailed(f"{left:,} cells have no result: {reasons[0]}{more}")
        if stop.is_set():
            raise Interrupted(f"interrupted with {left:,} cells to go; the same command resumes")
        raise RunFailed(f"{left:,} cells did not come back; the same command runs them again")


def _say_what_has_no_checksums(suite: Suite, runs: RunCache) -> None:
    """Note recorded runs whose bytes may be others than those that were recorded."""
    for name in suite.datasets if set(suite.tiers) != {"loop"} else ():
        if get_dataset(name).recorded:
            without = [run for run in runs.lineages(name).values() if not run.verified]
            if without:
                print(
                    f"note: {len(without)} runs of {name} have no checksums: whether their bytes "
                    "are those that were recorded is not known",
                    file=sys.stderr,
                )


def _check_gates(suite: Suite, runs: RunCache, store: Store) -> None:
    """Take the admission gates of data sets that are new here or have changed."""
    for name in sorted(
        {*suite.datasets, *(s.train for s in suite.shifts), *(s.test for s in suite.shifts)}
    ):
        contents = "".join(run.content for run in runs.lineages(name).values())
        data = hashlib.sha256(contents.encode()).hexdigest()
        if store.gates_of(name) != data:
            store.set_gates(name, data, set_gates(runs.all(name), get_dataset(name).track))


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the result folder for this run; a second run at the same time is turned away."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is writing to {folder}; wait for it, or name another folder"
        ) from None
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def refuse_written_to(folder: Path) -> None:
    """Refuse a folder that a run is writing to, without writing to it.

    Raises
    ------
    InputError
        If another process holds its lock.
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            system.lock(lock.fileno(), alone=False)
    except FileNotFoundError:
        return  # nobody has written to it, or it was copied without its lock
    except BlockingIOError:
        raise InputError(f"another run is writing to {folder}; wait for it") from None
    except OSError as error:
        if error.errno == errno.ENOLCK:
            return  # without locks nobody knows
        raise InputError(f"{folder / LOCK} cannot be read: {error.strerror}") from None


def _with_recipes(suite: Suite) -> Suite:
    """See that what the loop tier trains on is here; it needs no recorded runs."""
    for name in suite.datasets:
        recipe_of(name).require()
    return suite


def _require_data(dataset: DataSet, suite: Suite) -> None:
    """See that what recorded networks are measured on is here; forecasts of weights do without."""
    if isinstance(dataset, RecordedDataSet) and dataset.recipe and set(suite.tiers) != {"weights"}:
        dataset.recipe.require()


def _with_data(suite: Suite, options: RunOptions) -> Suite:
    """See that every data set's runs are here: record them, leave them out, or stop."""
    kept = []
    shifted = [name for shift in suite.shifts for name in (shift.train, shift.test)]
    for name in dict.fromkeys([*suite.datasets, *shifted]):
        dataset = get_dataset(name)
        if isinstance(dataset, RecordedDataSet) and not dataset.seeds:
            raise InputError(dataset.how_to_record(()))
        missing = dataset.missing(options.data)
        if missing and isinstance(dataset, RecordedDataSet):
            if options.record:
                seeds = ",".join(map(str, missing))
                record_dataset(
                    name, seeds, options.data, options.jobs or suite.jobs, options.device
                )
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
