"""What is said of cells without a result when a run is over."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.label import method_label
from weightcast.bench.printable import printable

#: Methods that are named; of more, the number is.
_NAMED = 10

_CELLS = """
SELECT cells.key, method, params, cells.status, cells.reason
FROM cells JOIN fits ON cells.fit = fits.key WHERE cells.status != 'ok'
UNION ALL SELECT key, method, params, status, reason FROM loops WHERE status != 'ok'
"""


@dataclass
class Failing:
    """A method's cells without a result: how many of each status, and why the first has none."""

    first_reason: str
    statuses: Counter[str] = field(default_factory=Counter)


def failing_methods(store: Store, keys: set[str]) -> dict[str, Failing]:
    """Return the methods with failed cells among these, the one with most of them first."""
    found: dict[str, Failing] = {}
    seen: set[str] = set()
    for row in store.rows(_CELLS):
        if row["key"] in keys and row["key"] not in seen:
            seen.add(row["key"])
            label = method_label(row["method"], row["params"])
            failing = found.setdefault(label, Failing(" ".join((row["reason"] or "").split())))
            failing.statuses[row["status"]] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1].statuses.total()))


def failure_lines(store: Store, keys: set[str], folder: Path) -> list[str]:
    """Name each method with failed cells, how many, the first reason, and how to see them all."""
    failing = failing_methods(store, keys)
    lines = [
        f"{printable(label)}: {counted(f.statuses)}, the first: {printable(f.first_reason[:200])}"
        for label, f in list(failing.items())[:_NAMED]
    ]
    if len(failing) > _NAMED:
        lines.append(f"and {len(failing) - _NAMED} more methods")
    if lines:
        where = shlex.quote(str(folder))
        lines.append(f"all of them with their stacks: weightcast report {where}")
    return lines


def counted(statuses: Counter[str] | dict[str, int]) -> str:
    """Say how many cells have which status.

    Examples
    --------
    >>> counted({"invalid": 12, "failed": 1200})
    '1,200 failed, 12 invalid'
    """
    return ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))
