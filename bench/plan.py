"""The plan: every fit that a suite asks for, each with the key that its results are kept under.

A key is a hash of all that the numbers depend on: the method's code and parameters, the bytes of
the data, the task, the rotation, the seed, the tuning budget and the protocol's version. Whatever
changes one of them asks for the fit again; nothing else does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weightcast.bench.suite import MethodEntry, Suite
from weightcast.datasets import DataSet, InputError, Trajectory, get_dataset, make_task
from weightcast.datasets.splits import Split, rotate
from weightcast.methods import get_method, make_method
from weightcast.methods.code import code_hash

#: Raised whenever the meaning of a stored number changes.
PROTOCOL = 1


@dataclass(frozen=True)
class Fit:
    """One method trained on one task and rotation, with the cells that use it.

    Attributes
    ----------
    key : str
        SHA-256 of everything below that numbers depend on.
    sampled : bool
        Whether the method runs on the coordinate sample only.
    tiers : tuple of str
        What each of its cells gives a row for.
    """

    key: str
    suite: str
    method: str
    params: str
    dataset: str
    track: str
    context: int
    split: Split
    sample: int
    seed: int
    tuning: int
    sampled: bool
    tiers: tuple[str, ...]

    @property
    def label(self) -> str:
        """Method, data set and rotation, for messages."""
        place = f"context {self.context}, rotation {self.split.rotation}"
        return f"{self.method} on {self.dataset}, {place}"


class RunCache:
    """A data set's runs, opened once a process."""

    def __init__(self, data: Path | None) -> None:
        self._data = data
        self._runs: dict[tuple[str, int], Trajectory] = {}

    def __call__(self, dataset: str, seed: int) -> Trajectory:
        if (dataset, seed) not in self._runs:
            self._runs[dataset, seed] = get_dataset(dataset).run(seed, self._data)
        return self._runs[dataset, seed]


def make_plan(suite: Suite, runs: RunCache) -> list[Fit]:
    """List the fits of a resolved suite, data set by data set.

    Raises
    ------
    InputError
        If a run has NaN or infinity, runs of one data set differ in tensors or steps, or a context
        does not fit.
    """
    codes = {entry.name: code_hash(get_method(entry.name)) for entry in suite.methods}
    fits = []
    for name in suite.datasets:
        dataset = get_dataset(name)
        hashes = _checked_hashes(dataset, runs)
        for context in suite.contexts:
            make_task(runs(name, dataset.seeds[0]), context)
            for split in rotate(dataset.seeds, suite.rotations):
                for entry in suite.methods:
                    fits.append(_fit(suite, entry, dataset, context, split, hashes, codes))
    return fits


def _checked_hashes(dataset: DataSet, runs: RunCache) -> dict[int, str]:
    first = runs(dataset.name, dataset.seeds[0])
    hashes: dict[int, str] = {}
    for seed in dataset.seeds:
        run = runs(dataset.name, seed)
        if run.tensors != first.tensors or run.steps.tolist() != first.steps.tolist():
            raise InputError(f"{run.label} and {first.label} differ in their tensors or steps")
        run.check_finite()
        hashes[seed] = run.content_hash()
    if len(set(hashes.values())) != len(hashes):
        raise InputError(f"two runs of {dataset.name} are the same: a test run would be trained on")
    return hashes


def _fit(
    suite: Suite,
    entry: MethodEntry,
    dataset: DataSet,
    context: int,
    split: Split,
    hashes: dict[int, str],
    codes: dict[str, str],
) -> Fit:
    cls = get_method(entry.name)
    sampled = bool(cls.get_class_tag("sampled"))
    # The real network is measured for recorded runs; of a forecast on a sample it has no use.
    function = "function" in suite.tiers and dataset.recorded and not sampled
    # Tuning has no say in methods without a grid, so they are not run again when it changes.
    tuning = suite.tuning if cls.param_grid else 0
    depends: dict[str, Any] = {
        "protocol": PROTOCOL,
        "code": codes[entry.name],
        "method": entry.name,
        "params": make_method(entry.name, entry.params).get_params(),
        "dataset": dataset.name,
        "data": hashes,
        "context": context,
        "split": asdict(split),
        "sample": suite.sample,
        "seed": suite.seed,
        "tuning": tuning,
        "function": function,
    }
    canonical = json.dumps(depends, sort_keys=True, default=str)
    return Fit(
        key=hashlib.sha256(canonical.encode()).hexdigest(),
        suite=suite.name,
        method=entry.name,
        params=entry.params_json,
        dataset=dataset.name,
        track=dataset.track,
        context=context,
        split=split,
        sample=suite.sample,
        seed=suite.seed,
        tuning=tuning,
        sampled=sampled,
        tiers=("weights", "function") if function else ("weights",),
    )
