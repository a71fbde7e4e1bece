"""The plan: every fit that a suite asks for, each with the key that its results are kept under.

A key is a hash of all that the numbers depend on. A fit's has the method's code and parameters, the
bytes of the runs that it is fitted on, the task, the rotation, the seed, the tuning budget and the
protocol's version; a cell's has the fit's key and the bytes of its own run. Whatever changes one of
them asks for the fit or the cell again; nothing else does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from weightcast.bench.plan.batch_norm import BatchNorm, has_statistics
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.parameters import files_hash, keyed_params
from weightcast.bench.plan.place import WHOLE, Place, few
from weightcast.bench.plan.run_cache import Files, RunCache
from weightcast.bench.plan.sharing import Sharing, find_sharing, traits
from weightcast.bench.plan.suite import MethodEntry, Suite
from weightcast.datasets import InputError, get_dataset, make_task
from weightcast.datasets.admission.lineage import Lineage, refuse_shared
from weightcast.datasets.splits import Split, rotate
from weightcast.methods import get_method
from weightcast.methods.code import code_hash

#: Raised whenever the meaning of a stored number changes.
PROTOCOL = 5
#: Far enough apart that no two repeats of a suite's rotations share a seed.
_BETWEEN_REPEATS = 1_000_003


@dataclass(frozen=True)
class Fit:
    """One method trained on one task and rotation, with the cells that use it.

    Attributes
    ----------
    key : str
        SHA-256 of everything that the fitted method depends on.
    code : str
        The method's `code_hash`.
    split : Split
        ``train`` and ``validation`` are seeds of ``place.trained_on``, ``test`` of
        ``place.dataset``.
    repeat : int
        Which of several fits of a method that draws random numbers, each under a seed of its own;
        0 for all others.
    sampled : bool
        Whether the method runs on the coordinate sample only.
    tiers : tuple of str
        What each of its cells gives a row for.
    cells : tuple of tuple
        Each test run's seed and the key of its cell.
    data : tuple of KnownRun
        Every run that is fitted or tested on.
    sharing : dict
        What the task's test runs share with those trained on, in tracks other than ``main``. No
        number depends on it beyond the data, so it is not in the key.
    files : str
        The parameters' `files_hash`.
    batch_norm : BatchNorm, optional
        The suite's rule for batch-norm statistics, where the function tier runs on a network that
        has them.
    lengths : bool
        Whether the function tier measures forecasts at their best length too.
    """

    key: str
    code: str
    suite: str
    method: str
    params: str
    place: Place
    context: int
    split: Split
    sample: int
    seed: int
    tuning: int
    sampled: bool
    tiers: tuple[str, ...]
    cells: tuple[tuple[int, str], ...] = ()
    data: tuple[KnownRun, ...] = ()
    sharing: Sharing = field(default_factory=dict)
    batch_norm: BatchNorm | None = None
    files: str = ""
    repeat: int = 0
    lengths: bool = False

    @property
    def task_seed(self) -> int:
        """The seed of the method's own random numbers."""
        return self.seed + self.split.rotation + _BETWEEN_REPEATS * self.repeat

    def missing(self, finished: Collection[str]) -> tuple[int, ...]:
        """Return the seeds of test runs whose cells are not among the finished ones."""
        return tuple(seed for seed, key in self.cells if key not in finished)

    @property
    def shown(self) -> tuple[str, str]:
        """Data set and method as the progress table names them."""
        dataset = self.place.dataset
        if self.place.track not in ("main", "fine-tune"):
            dataset += f" ({self.place.track})"
        elif self.place.split != WHOLE:
            dataset += f" ({self.place.split})"
        return dataset, method_label(self.method, self.params)

    @property
    def label(self) -> str:
        """Method, data set and rotation, for messages."""
        track = "" if self.place.track == "main" else f" ({self.place.track})"
        track += "" if self.place.split == WHOLE else f" ({self.place.split})"
        return (
            f"{self.method} on {self.place.dataset}{track}, context {self.context}, "
            f"rotation {self.split.rotation}" + f", repeat {self.repeat}" * (self.repeat > 0)
        )


class KnownRun(NamedTuple):
    """A run as the plan knows it.

    Attributes
    ----------
    dataset : str
    seed : int
    fingerprint : str
        Its lineage's.
    files : tuple of Identity
        What its files were before they were read; empty for a run that has none.
    """

    dataset: str
    seed: int
    fingerprint: str
    files: Files


@dataclass(frozen=True)
class Rotation:
    """A task with one of its splits: what the fits of all methods have in common.

    Attributes
    ----------
    train, test : list of Lineage
        In the split's order of seeds, those of validation after those of training.
    data : tuple of KnownRun
        The same runs.
    sharing : dict
    batch_norm : BatchNorm, optional
    network : bool
        Whether the test runs' network can be measured.
    """

    place: Place
    context: int
    split: Split
    train: list[Lineage]
    test: list[Lineage]
    data: tuple[KnownRun, ...]
    sharing: Sharing
    batch_norm: BatchNorm | None
    network: bool

    def depends(self) -> dict[str, Any]:
        """Return what a fitted method depends on."""
        return {
            "place": asdict(self.place),
            "data": [run.fingerprint for run in self.train],
            "context": self.context,
            "split": [self.split.rotation, self.split.train, self.split.validation],
        }

    def cells(self, key: str, function: bool, lengths: bool) -> Iterator[tuple[int, str]]:
        """Yield each test run's seed and the key of its cell, by the key of its fit."""
        # Networks without batch norm know of no rule, and their cells keep the keys that they had.
        rule: list[Any] = []
        if function and self.batch_norm is not None:
            rule.append(asdict(self.batch_norm))
        if lengths:
            rule.append("lengths")
        for seed, run in zip(self.split.test, self.test, strict=True):
            # Tasks are made after the first test run: its steps and learning rates enter as well.
            first = self.test[0]
            yield seed, hash_of([key, run.fingerprint, first.task, first.recipe, function, *rule])


def make_plan(suite: Suite, runs: RunCache) -> list[Fit]:
    """List the fits of a resolved suite, data set by data set.

    Raises
    ------
    InputError
        If a run has NaN or infinity, runs of one data set differ in tensors or steps, a context
        does not fit, a rotation has fewer training runs than asked for, or training and test runs
        share what they must not.
    """
    codes = {entry.name: code_hash(get_method(entry.name)) for entry in suite.methods}
    fits = []
    for place in _places(suite, runs):
        there, here = runs.lineages(place.trained_on), runs.lineages(place.dataset)
        seeds = get_dataset(place.dataset).seeds
        splits = _splits(place, suite.rotations)
        sharing = _sharing(place, splits, runs)
        normed = "function" in suite.tiers and has_statistics(runs(place.dataset, seeds[0]))
        batch_norm = BatchNorm(suite.batch_norm, suite.batch_norm_batches) if normed else None
        for context in suite.contexts:
            make_task(place.test_view(runs(place.dataset, seeds[0])), context)
            for split in splits:
                rotation = Rotation(
                    place=place,
                    context=context,
                    split=split,
                    train=[there[seed] for seed in (*split.train, *split.validation)],
                    test=[here[seed] for seed in split.test],
                    data=tuple(_known(place, split, runs)),
                    sharing=sharing,
                    batch_norm=batch_norm,
                    network=_has_network(place, runs),
                )
                refuse_shared(rotation.train, rotation.test, _starts_like(place))
                fits += [
                    _fit(suite, entry, codes[entry.name], rotation, repeat)
                    for entry in suite.methods
                    for repeat in range(repeats_of(suite, entry))
                ]
    return fits


def _has_network(place: Place, runs: RunCache) -> bool:
    """Whether recorded runs can be measured: their set gives a network, or they name a recipe."""
    dataset = get_dataset(place.dataset)
    first = runs(place.dataset, dataset.seeds[0])
    return not dataset.no_network or (dataset.recorded and bool(first.meta.recipe))


def _places(suite: Suite, runs: RunCache) -> Iterator[Place]:
    for name in suite.datasets:
        track = get_dataset(name).track
        yield Place(name, name, track)
        for window in suite.windows:
            yield Place(name, name, track, split=window)
        for count in dict.fromkeys(suite.train_runs):
            yield Place(name, name, track, split=few(count))
    for shift in suite.shifts:
        first = [runs(n, get_dataset(n).seeds[0]).n_snapshots for n in (shift.train, shift.test)]
        count = min(first[0], (first[1] - 1) // shift.every + 1)
        yield Place(shift.test, shift.train, shift.track, every=shift.every, snapshots=count)


def _starts_like(place: Place) -> str:
    """Return the track whose rule on starts holds: a shift between fine-tunes is one of theirs."""
    tracks = {get_dataset(name).track for name in (place.trained_on, place.dataset)}
    return tracks.pop() if len(tracks) == 1 else place.track


def _sharing(place: Place, splits: list[Split], runs: RunCache) -> Sharing:
    """Look up what test runs share with those trained on; in the main track nobody has to ask."""
    if place.track == "main":
        return {}
    here = {
        seed: traits(place.test_view(runs(place.dataset, seed)), origin)
        for seed, origin in runs.lineages(place.dataset).items()
    }
    there = {
        seed: traits(place.training_view(runs(place.trained_on, seed)), origin)
        for seed, origin in runs.lineages(place.trained_on).items()
    }
    return find_sharing(
        ([there[s] for s in (*split.train, *split.validation)], [here[s] for s in split.test])
        for split in splits
    )


def _splits(place: Place, rotations: int) -> list[Split]:
    """Rotate over the seeds of the tested set; train on the other set's runs of other seeds."""
    splits = rotate(get_dataset(place.dataset).seeds, rotations)
    if place.trained_on == place.dataset:
        return splits if place.train_runs is None else _narrowed(splits, place, place.train_runs)
    found = []
    for there, here in zip(
        rotate(get_dataset(place.trained_on).seeds, rotations), splits, strict=True
    ):
        tested = set(here.test)
        train, validation = (
            tuple(seed for seed in side if seed not in tested)
            for side in (there.train, there.validation)
        )
        if not train or not validation:
            raise InputError(
                f"{place.trained_on} has no runs left to train on whose seeds are not tested on "
                f"{place.dataset}"
            )
        found.append(Split(here.rotation, train, validation, here.test))
    return found


def _narrowed(splits: list[Split], place: Place, count: int) -> list[Split]:
    """Leave each rotation its first training runs, by seed; all else stays."""
    most = min(len(split.train) for split in splits)
    if count > most:
        raise InputError(
            f"{place.dataset} has {most} training runs in each of {len(splits)} rotations, and "
            f"train_runs asks for {count}; name at most {most}, or leave the data set out"
        )
    return [replace(split, train=split.train[:count]) for split in splits]


def _known(place: Place, split: Split, runs: RunCache) -> Iterator[KnownRun]:
    for dataset, seeds in (
        (place.trained_on, (*split.train, *split.validation)),
        (place.dataset, split.test),
    ):
        origins = runs.lineages(dataset)
        for seed in seeds:
            yield KnownRun(dataset, seed, origins[seed].fingerprint, runs.files(dataset, seed))


def repeats_of(suite: Suite, entry: MethodEntry) -> int:
    """Count the fits of a method: there is nothing to repeat where no random number is drawn."""
    return suite.repeats if get_method(entry.name).get_class_tag("random") else 1


def _fit(suite: Suite, entry: MethodEntry, code: str, rotation: Rotation, repeat: int = 0) -> Fit:
    cls = get_method(entry.name)
    sampled = bool(cls.get_class_tag("sampled"))
    # Of a forecast on a sample the real network has no use.
    function = "function" in suite.tiers and rotation.network and not sampled
    # Tuning has no say in methods without a grid, so they are not run again when it changes.
    tuning = suite.tuning if cls.param_grid else 0
    depends: dict[str, Any] = {
        "protocol": PROTOCOL,
        "code": code,
        "method": entry.name,
        "params": keyed_params(entry.name, entry.params),
        "sample": suite.sample,
        "seed": suite.seed,
        "tuning": tuning,
    }
    if repeat:
        depends["repeat"] = repeat
    key = hash_of(depends | rotation.depends())
    return Fit(
        key=key,
        code=code,
        files=files_hash(entry.name, entry.params_json),
        suite=suite.name,
        method=entry.name,
        params=entry.params_json,
        place=rotation.place,
        context=rotation.context,
        split=rotation.split,
        sample=suite.sample,
        seed=suite.seed,
        repeat=repeat,
        tuning=tuning,
        sampled=sampled,
        tiers=("weights", "function") if function else ("weights",),
        cells=tuple(rotation.cells(key, function, function and suite.lengths)),
        data=rotation.data,
        sharing=rotation.sharing,
        batch_norm=rotation.batch_norm if function else None,
        lengths=function and suite.lengths,
    )


def hash_of(depends: Any) -> str:
    """Return the SHA-256 of plain values, those of dictionaries in whatever order."""
    canonical = json.dumps(depends, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
