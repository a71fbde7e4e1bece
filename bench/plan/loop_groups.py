"""The loop tier's plan: every training run that a suite asks for, each with its key.

Learning-rate grids grow where an optimizer's own best lies at an edge, so the plan is made again
from what is stored, until nothing is missing and no grid has to grow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from weightcast.bench.plan.fits import PROTOCOL, hash_of
from weightcast.bench.plan.loop_settings import (
    CONTROLS,
    JUMP,
    NO_FORECAST,
    NULL,
    READ_OUT,
    SNOO,
    LoopGroup,
    LoopRun,
    LoopSettings,
    recipe_of,
)
from weightcast.bench.plan.parameters import files_hash, keyed_params
from weightcast.bench.plan.suite import MethodEntry, Suite
from weightcast.datasets import InputError, get_dataset
from weightcast.datasets.admission.data_identity import data_identity
from weightcast.methods import get_method
from weightcast.methods.code import code_hash

#: (data set, optimizer) → learning rates.
Grids = dict[tuple[str, str], list[float]]

#: What a run's numbers do not depend on.
_APART = {
    "optimizers", "schedules", "accept", "lengths", "uses", "controls", "read_schedules",
    "snoo_every", "snoo_rates", "snoo_momenta",
    "calibration", "validation", "report", "widenings",
}  # fmt: skip


def trained(suite: Suite) -> list[str]:
    """Return the data sets whose networks the loop tier trains.

    Beside other tiers a data set may have no network; a suite of the loop tier alone is refused
    then, as is one of which nothing is left.

    Raises
    ------
    InputError
        Saying what the data set would have to give.
    """
    found = [name for name in suite.datasets if not get_dataset(name).no_network]
    if set(suite.tiers) == {"loop"} or not found:
        for name in suite.datasets:
            recipe_of(name)
    return found


def first_grids(suite: Suite) -> Grids:
    """Return the learning rates that the suite begins with."""
    return {
        (dataset, name): list(rates)
        for dataset in trained(suite)
        for name, rates in suite.loop.optimizers.items()
    }


def widened(grids: Grids, edges: Iterable[tuple[str, str, str]], first: Grids, most: int) -> Grids:
    """Return grids with two more learning rates at each edge that holds an optimum.

    Parameters
    ----------
    grids : Grids
    edges : iterable of tuple
        Data set, optimizer, and ``"low"`` or ``"high"``.
    first : Grids
        What the suite began with.
    most : int
        How often a side may grow.
    """
    grown = {pool: list(rates) for pool, rates in grids.items()}
    for dataset, optimizer, side in edges:
        rates, begin = grown[dataset, optimizer], first[dataset, optimizer]
        ratio = _ratio(begin)
        if side == "low" and rates.index(begin[0]) < 2 * most:
            rates[:0] = [_rounded(rates[0] / ratio**k) for k in (2, 1)]
        if side == "high" and len(rates) - 1 - rates.index(begin[-1]) < 2 * most:
            rates += [_rounded(rates[-1] * ratio**k) for k in (1, 2)]
    return grown


def finer(grid: Sequence[float], count: int, ratio: float) -> list[tuple[float, float]]:
    """Return ``count`` learning rates around each of a grid's, evenly apart, itself among them.

    Parameters
    ----------
    grid : sequence of float
        Ascending.
    count : int
    ratio : float
        From one rate of the grid to the next.

    Returns
    -------
    list of (float, float)
        A rate and the grid's that it belongs to, ascending.

    Examples
    --------
    >>> finer([0.1, 0.8], 3, 8.0)
    [(0.05, 0.1), (0.1, 0.1), (0.2, 0.1), (0.4, 0.8), (0.8, 0.8), (1.6, 0.8)]
    """
    steps = range(-((count - 1) // 2), count // 2 + 1)
    return [
        (_rounded(rate * ratio ** (step / count)) if step else rate, rate)
        for rate in grid
        for step in steps
    ]


def _ratio(begin: Sequence[float]) -> float:
    """Return a grid's ratio by what it began with: the same however far it has grown."""
    return begin[1] / begin[0]


def _rounded(rate: float) -> float:
    return float(f"{rate:.4g}")


def loop_groups(suite: Suite, grids: Grids) -> list[LoopGroup]:
    """List all groups of a resolved suite, the plain pool first.

    Raises
    ------
    InputError
        If a data set cannot be trained, or a method cannot jump.
    """
    groups = []
    for dataset in trained(suite):
        recipe = recipe_of(dataset)
        material = [recipe.to_json(), data_identity(recipe)]
        for method, params, accept, use in _rows(suite):
            code, files = _what_runs(method, params)
            for optimizer in suite.loop.optimizers:
                tries = _tries(method, use, grids[dataset, optimizer], suite.loop, optimizer)
                for schedule in _schedules(use, suite.loop):
                    depends = [
                        PROTOCOL, "loop", method, _keyed(method, params, files), accept, use,
                        code, material, optimizer, schedule, suite.loop.model_dump(exclude=_APART),
                    ]  # fmt: skip
                    if method == SNOO:
                        depends.append(suite.loop.snoo_every)
                    groups.append(
                        LoopGroup(
                            suite=suite.name,
                            dataset=dataset,
                            method=method,
                            params=params,
                            accept=accept,
                            optimizer=optimizer,
                            schedule=schedule,
                            runs=_runs(method, tries, suite.loop, depends),
                            settings=suite.loop,
                            code=code,
                            files=files,
                            use=use,
                        )
                    )
    return groups


def _schedules(use: str, settings: LoopSettings) -> list[str]:
    return (settings.read_schedules if use == READ_OUT else []) or settings.schedules


def _what_runs(method: str, params: str) -> tuple[str, str]:
    """Return the hashes of a method's code and of the files that its parameters name."""
    if method in CONTROLS:
        return "", ""
    return code_hash(get_method(method)), files_hash(method, params)


def _keyed(method: str, params: str, files: str) -> str:
    """Return parameters without the names of files, where they name any."""
    if not files:
        return params
    return json.dumps(keyed_params(method, json.loads(params)), sort_keys=True)


def missing_groups(groups: Sequence[LoopGroup], finished: set[str]) -> list[LoopGroup]:
    """Return what is still to run, with the runs that are missing."""
    found = []
    for group in groups:
        runs = tuple(run for run in group.runs if run.key not in finished)
        if runs:
            found.append(replace(group, runs=runs))
    return found


def _rows(suite: Suite) -> list[tuple[str, str, str, str]]:
    """Return method, parameters, rule of acceptance and use of every row of the tables."""
    moving = suite.loop.controls if set(suite.loop.uses) != {READ_OUT} else []
    controls = [(name, "{}", "always", JUMP) for name in (NO_FORECAST, NULL, *moving)]
    rows = list(controls)
    for use in suite.loop.uses:
        # What is only measured is not taken or left.
        rules = ["always"] if use == READ_OUT else suite.loop.accept
        for entry in suite.methods:
            if jumps(entry):
                rows += [(entry.name, entry.params_json, rule, use) for rule in rules]
    if len(rows) == len(controls):
        raise InputError("the loop tier has no forecaster to run; name some, e.g. ols-line")
    return rows


def jumps(entry: MethodEntry) -> bool:
    """Whether a method can jump in the loop tier: not where it would stay, or knows the truth.

    A reference that measures the run's own training loss can, and pays the seconds of it.
    """
    cls = get_method(entry.name)
    reference = cls.get_class_tag("role", "forecaster") == "reference"
    return not (
        entry.name == "last-value"
        or cls.get_class_tag("sampled")
        or (reference and "train-loss" not in cls.get_class_tag("needs", ()))
    )


class _Try(NamedTuple):
    """What a method may choose at one optimizer; as in `LoopRun`."""

    rate: float
    length: float
    pool_rate: float
    horizon: int = 0
    momentum: float = 0.0


def _tries(
    method: str, use: str, grid: Sequence[float], settings: LoopSettings, optimizer: str
) -> list[_Try]:
    """Return what a method may choose from at one optimizer.

    As many for a control, which has nothing to tune but rates, as for a forecaster that jumps. What
    a read-out tunes costs no training; plain training has its averages there. An outer step with
    momentum has a grid of its own.
    """
    if use == READ_OUT:
        horizons = settings.horizons or [settings.horizon]
        return [_Try(rate, 1.0, rate, horizon) for rate in grid for horizon in horizons]
    if method == SNOO:
        return [
            _Try(rate, length, rate, momentum=momentum)
            for rate in grid
            for length in settings.snoo_rates
            for momentum in settings.snoo_momenta
        ]
    if method not in CONTROLS:
        return [_Try(rate, length, rate) for rate in grid for length in settings.lengths]
    tried = 1 if set(settings.uses) == {READ_OUT} else len(settings.lengths)
    ratio = _ratio(settings.optimizers[optimizer])
    return [_Try(rate, 1.0, of) for rate, of in finer(grid, tried, ratio)]


def _runs(
    method: str,
    tries: Sequence[_Try],
    settings: LoopSettings,
    depends: list[Any],
) -> tuple[LoopRun, ...]:
    roles = ["validation", "report"]
    if method == NO_FORECAST:
        roles.append("calibration")
    return tuple(
        LoopRun(one.rate, seed, role, _key(depends, one, seed, role), *one[1:])
        for one in tries
        for role in roles
        for seed in settings.seeds(role)
    )


def _key(depends: list[Any], one: _Try, seed: int, role: str) -> str:
    # A whole jump is what it is in a suite that tunes no lengths.
    apart = [one.length] if one.length != 1 else []
    if one.horizon or one.momentum:
        apart += [one.horizon, one.momentum]
    return hash_of([depends, one.rate, seed, role, *apart])
