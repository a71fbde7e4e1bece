"""`weightcast audit`: published results beside those on runs that nobody has seen before.

Isolation keeps accidents out. A method that knows the runs of a data set, from a file, from the
registry or because its author looked, is found out by new ones: their seeds are drawn at random
when the audit begins, they are generated or trained, and forecast by methods fitted as before.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from weightcast.bench.commands.arguments import check_data, check_jobs
from weightcast.bench.commands.record import record_dataset
from weightcast.bench.commands.run import RunOptions, only_writer, refuse_written_to, run_units
from weightcast.bench.engine.store.store import Store, prepare
from weightcast.bench.plan.fits import Fit, KnownRun, hash_of, make_plan
from weightcast.bench.plan.place import Place
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.bench.results.audit import FILE, FOLDER, Audit, AuditRow, audit_rows, write_audit
from weightcast.bench.results.headline import BASELINE
from weightcast.bench.results.tables import load_results
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import DataSet, InputError, RecordedDataSet, get_dataset
from weightcast.datasets.admission.known_runs import checked_lineage
from weightcast.datasets.errors import unknown
from weightcast.datasets.files.partial_file import write_text
from weightcast.methods.label import parse_label

#: Seconds that recording a run may take where nobody names its data set.
_QUICK = 30.0
_SEEDS = "seeds.json"
_MOST_SEED = 2**31


@dataclass
class AuditOptions:
    """What the command line asked for; see `weightcast.bench.cli.audit.audit`."""

    folder: Path
    methods: list[str] | None = None
    datasets: list[str] | None = None
    fresh: int = 12
    data: Path | None = None
    jobs: int | None = None
    plugins: list[Path] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Hold the arguments to what can be done.

        Raises
        ------
        InputError
            Naming the option as it is typed.
        """
        check_jobs("--jobs", self.jobs)
        check_data("--data", self.data)
        if not 4 <= self.fresh <= 1000:
            raise InputError(f"--fresh is {self.fresh}; it must be 4 to 1000 runs a data set")


def run_audit(options: AuditOptions) -> list[AuditRow]:
    """Audit a result folder; its verdicts are written into it.

    An audit that was interrupted goes on with the runs that it drew.

    Raises
    ------
    InputError
        For anything that the user can mend.
    """
    published = load_results(options.folder)
    suite = _suite(options)
    runs = RunCache(options.data)
    plan = _published(make_plan(suite, runs), options.folder)
    here = options.folder / FOLDER
    data = here / "data"
    work = RunOptions(
        suite=suite.name,
        out=here,
        data=data,
        jobs=options.jobs,
        plugins=options.plugins,
        command=options.command,
    )
    if (here / FILE).exists():  # that one is over
        refuse_written_to(here)
        shutil.rmtree(here)
    prepare(here)
    with only_writer(here), Store(here, create=True) as store:
        seeds = _draw(here, [get_dataset(name) for name in suite.datasets], options.fresh)
        _record(suite, seeds, options, data)
        fresh_runs = RunCache(data)
        fits = [fit for of in plan if (fit := _on_fresh(of, seeds, suite.rotations, fresh_runs))]
        finished = store.finished()
        units = [Unit(fit, missing) for fit in fits if (missing := fit.missing(finished))]
        if units:
            run_units(units, suite, work, store)
    rows = audit_rows(published, load_results(here))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write_audit(options.folder, Audit(made=made, seeds=seeds, rows=rows))
    return rows


def _suite(options: AuditOptions) -> Suite:
    """Return the part of a folder's suite that is to be audited."""
    file = options.folder / "suite.toml"
    if not file.is_file():
        raise InputError(f"{options.folder} has no suite.toml; audit a folder of weightcast run")
    suite = load_suite(str(file))
    names = [entry.name for entry in suite.methods]
    for name in options.methods or []:
        if parse_label(name)[0] not in names:
            raise unknown("method of the folder's suite", name, sorted(set(names)))
    for name in options.datasets or []:
        if name not in suite.datasets:
            raise unknown("data set of the folder's suite", name, sorted(suite.datasets))
    if BASELINE not in names:
        raise InputError(f"the suite has no {BASELINE}, which errors are told relative to")
    wanted = None if options.methods is None else list(dict.fromkeys([BASELINE, *options.methods]))
    suite = suite.resolve(wanted, options.datasets)
    named, kept = options.datasets is not None, []
    for name in suite.datasets:
        why = _why_not(get_dataset(name), named)
        if why and named:
            raise InputError(f"{name} {why}")
        if why:
            print(f"left out: {name} {why}", file=sys.stderr)
        else:
            kept.append(name)
    tiers = [tier for tier in suite.tiers if tier != "loop"]
    if not kept or not tiers:
        raise InputError("no data set is left to audit; name one with --datasets")
    update = {"datasets": kept, "tiers": tiers, "windows": [], "train_runs": [], "shifts": []}
    return suite.model_copy(update=update)


def _why_not(dataset: DataSet, named: bool) -> str:
    """Say why there can be no fresh runs of a data set; empty where there can."""
    if not isinstance(dataset, RecordedDataSet):
        return ""
    if dataset.untrainable:
        return f"has no fresh runs: it {dataset.untrainable}"
    if dataset.seconds_per_run > _QUICK and not named:
        return f"takes {dataset.seconds_per_run:.0f} s a fresh run; name it with --datasets"
    return ""


def _published(plan: list[Fit], folder: Path) -> list[Fit]:
    """Return the fits whose cells are all in a folder: what it is an audit of."""
    with Store(folder, read_only=True) as store:
        finished = store.finished()
    whole = [
        fit
        for fit in plan
        if fit.place == Place(fit.place.dataset, fit.place.dataset, fit.place.track)
        and not fit.missing(finished)
    ]
    if left := len({fit.method for fit in plan} - {fit.method for fit in whole}):
        print(
            f"note: {left} methods have no results here of today's code and data; they are left "
            "out",
            file=sys.stderr,
        )
    if not any(fit.method != BASELINE for fit in whole):
        raise InputError(
            f"{folder} has no finished results of today's code and data; run its suite first"
        )
    return whole


def _draw(here: Path, datasets: Iterable[DataSet], count: int) -> dict[str, list[int]]:
    """Draw fresh seeds, or go on with those of an audit that was not finished."""
    drawn = _unfinished(here / _SEEDS)
    for dataset in datasets:
        known = set(dataset.seeds)
        if len(drawn.get(dataset.name, ())) != count:
            seeds: set[int] = set()
            while len(seeds) < count:
                seeds |= {secrets.randbelow(_MOST_SEED)} - known
            drawn[dataset.name] = sorted(seeds)
    write_text(here / _SEEDS, json.dumps(drawn) + "\n")
    return {dataset.name: drawn[dataset.name] for dataset in datasets}


def _unfinished(path: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it") from None
    whole = isinstance(found, dict) and all(
        isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        for seeds in found.values()
    )
    if not whole:
        raise InputError(f"{path} holds no seeds; remove it")
    return dict(found)


def _record(suite: Suite, seeds: dict[str, list[int]], options: AuditOptions, data: Path) -> None:
    """Train fresh runs of recorded sets, beside links to the runs that methods are fitted on."""
    for name in suite.datasets:
        dataset = get_dataset(name)
        if not isinstance(dataset, RecordedDataSet):
            continue
        (data / dataset.folder).mkdir(parents=True, exist_ok=True)
        for seed in dataset.seeds:
            path, link = (
                dataset.path(seed, options.data),
                data / dataset.folder / f"{seed}.safetensors",
            )
            if path is None:
                raise InputError(dataset.how_to_record((seed,)))
            if not os.path.lexists(link):
                link.symlink_to(path.resolve())
        record_dataset(name, ",".join(map(str, seeds[name])), data, options.jobs or suite.jobs)


def _on_fresh(fit: Fit, seeds: dict[str, list[int]], rotations: int, runs: RunCache) -> Fit | None:
    """Return a fit with its share of the fresh runs to forecast; None where it has none."""
    dataset = fit.place.dataset
    share = tuple(seeds[dataset][fit.split.rotation :: rotations])
    if not share:
        return None
    lineages = {seed: checked_lineage(runs(dataset, seed)) for seed in share}
    fresh = [
        KnownRun(dataset, seed, lineage.fingerprint, runs.files(dataset, seed))
        for seed, lineage in lineages.items()
    ]
    trained_on = (*fit.split.train, *fit.split.validation)
    known = [run for run in fit.data if run.seed in trained_on]
    return replace(
        fit,
        split=replace(fit.split, test=share),
        data=(*known, *fresh),
        cells=tuple(
            (seed, hash_of([fit.key, lineage.fingerprint, "audit"]))
            for seed, lineage in lineages.items()
        ),
    )
