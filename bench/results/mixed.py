"""What differs between the machines and versions that a folder's results were made on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def environment_differences(machines: Sequence[dict[str, Any]]) -> list[str]:
    """Say in what machines differ, and how many cells were made with each value.

    Parameters
    ----------
    machines : sequence of dict
        As in `weightcast.bench.results.tables.Results.machines`.

    Returns
    -------
    list of str
        A line a setting that differs; empty where all are alike.

    Examples
    --------
    >>> environment_differences([{"cpu": "A", "cells": 40}, {"cpu": "B", "cells": 1}])
    ['cpu A (40 cells) and B (1 cell)']
    """
    settings = [_settings(machine) for machine in machines]
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


def mixed_note(machines: Sequence[dict[str, Any]]) -> str:
    """Say in one line that results come from several environments; nothing where they do not.

    Examples
    --------
    >>> mixed_note([{"cpu": "A", "cells": 40}])
    ''
    """
    differences = environment_differences(machines)
    if not differences:
        return ""
    kinds = {tuple(_settings(machine).items()) for machine in machines}
    return (
        f"cells were made in {len(kinds)} environments: {'; '.join(differences)}; "
        "errors may differ slightly between them, seconds do not compare"
    )


def _settings(machine: dict[str, Any]) -> dict[str, str]:
    """Return what numbers or seconds depend on, in words; what reads alike counts as alike."""
    found = {}
    for key, (name, written) in _SPOKEN.items():
        if key in machine:
            value = machine[key]
            found[name] = "not known" if value is None else written(value)
    packages = machine.get("packages") or {}
    return found | {
        name: "not installed" if version is None else str(version)
        for name, version in sorted(packages.items())
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
