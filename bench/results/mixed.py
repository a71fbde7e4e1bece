"""What differs between the machines and versions that a folder's results were made on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.loop_settings import CONTROLS
from weightcast.bench.plan.method_facts import MethodFacts

#: What every number goes through.
_ALWAYS = ("weightcast", "numpy")
#: Distributions that are imported under another name.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skbase": "scikit-base"}


def packages_used(methods: Iterable[MethodFacts | None], networks: bool) -> set[str] | None:
    """Name the distributions that numbers of some methods go through.

    Parameters
    ----------
    methods : iterable of MethodFacts
        None among them is a method that said nothing.
    networks : bool
        Whether real networks were measured or trained.

    Returns
    -------
    set of str, optional
        None where nobody knows what a method imports.

    Examples
    --------
    >>> from weightcast.bench.plan.method_facts import facts_of
    >>> sorted(packages_used([facts_of("ols-line", "{}")], networks=False))
    ['numpy', 'weightcast']
    """
    found = {*_ALWAYS, *(["torch"] if networks else [])}
    for facts in methods:
        if facts is None:
            return None
        found |= {_DISTRIBUTIONS.get(name, name) for name in facts.packages}
    # statsmodels brings scipy, sktime scikit-learn: what they compute, they compute with those.
    return found | {below for name in found for below in _required(name)}


def _required(distribution: str) -> set[str]:
    """Name what a distribution requires, without what is for its extras."""
    if distribution in _ALWAYS:
        return set()
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:
        return set()
    names = (re.match(r"[\w.-]+", line) for line in lines if "extra ==" not in line)
    return {found[0].lower() for found in names if found}


def environment_differences(
    machines: Sequence[dict[str, Any]], used: Collection[str] | None = None
) -> list[str]:
    """Say in what machines differ, and how many cells were made with each value.

    Parameters
    ----------
    machines : sequence of dict
        As in `weightcast.bench.results.tables.Results.machines`.
    used : collection of str, optional
        Packages whose versions are compared, as of `packages_used`; all that are known by default.

    Returns
    -------
    list of str
        A line a setting that differs; empty where all are alike.

    Examples
    --------
    >>> environment_differences([{"cpu": "A", "cells": 40}, {"cpu": "B", "cells": 1}])
    ['cpu A (40 cells) and B (1 cell)']
    """
    settings = [_settings(machine, used) for machine in machines]
    found = []
    for name in dict.fromkeys(name for each in settings for name in each):
        cells: dict[str, int] = {}
        for each, machine in zip(settings, machines, strict=True):
            value = each.get(name, "not known")
            cells[value] = cells.get(value, 0) + int(machine["cells"])
        if len(cells) > 1:
            spoken = [f"{value} ({_cells(count)})" for value, count in cells.items()]
            found.append(f"{name} {', '.join(spoken[:-1])} and {spoken[-1]}")
    return found


def mixed_note(machines: Sequence[dict[str, Any]], used: Collection[str] | None = None) -> str:
    """Say in one line that results come from several environments; nothing where they do not.

    Examples
    --------
    >>> mixed_note([{"cpu": "A", "cells": 40}])
    ''
    """
    differences = environment_differences(machines, used)
    if not differences:
        return ""
    kinds = {tuple(_settings(machine, used).items()) for machine in machines}
    return (
        f"cells were made in {len(kinds)} environments: {'; '.join(differences)}; "
        "errors may differ slightly between them, seconds do not compare"
    )


def store_note(store: Store) -> str:
    """Say the same of a store."""
    machines = store.machines()
    if len(machines) < 2:
        return ""
    rows = store.rows("SELECT method, params FROM fits UNION SELECT method, params FROM loops")
    networks = store.rows(
        "SELECT 1 AS one FROM cells WHERE tier = 'function' UNION SELECT 1 FROM loops LIMIT 1"
    )
    facts = store.methods()
    told = [facts.get((r["method"], r["params"])) for r in rows if r["method"] not in CONTROLS]
    return mixed_note(machines, packages_used(told, bool(networks)))


def _settings(machine: dict[str, Any], used: Collection[str] | None) -> dict[str, str]:
    """Return what numbers or seconds depend on, in words; what reads alike counts as alike."""
    found = {}
    for key, (name, written) in _SPOKEN.items():
        if key in machine:
            value = machine[key]
            found[name] = "not known" if value is None else written(value)
    found["GPU"] = str(machine.get("gpu") or "none used")
    packages = machine.get("packages") or {}
    return found | {
        name: "not installed" if version is None else str(version)
        for name, version in sorted(packages.items())
        if used is None or name in used
    }


def _gibibytes(amount: Any) -> str:
    # Equal machines differ by some pages, which mean nothing.
    return f"{amount / 2**30:.0f} GiB"


def _cells(count: int) -> str:
    if count == 0:
        return "only fits"
    return f"{count:,} cell{'' if count == 1 else 's'}"


_SPOKEN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cpu": ("cpu", str),
    "cores": ("cores", str),
    "memory_bytes": ("memory", _gibibytes),
    "system": ("system", str),
    "python": ("python", str),
    "commit": ("commit", str),
}
