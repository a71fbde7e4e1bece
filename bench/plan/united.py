"""What a folder was asked for by several runs, as one suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.datasets.errors import InputError

#: What no option of `weightcast run` changes: where it differs, the suite itself was changed.
FIXED = ("rotations", "sample", "seed")
_SEVERAL = ("datasets", "methods", "contexts", "windows", "train_runs", "shifts", "tiers")


def united(suites: Sequence[Suite]) -> tuple[Suite, list[str]]:
    """Unite what was asked for; the last one's other settings hold, and the largest budget.

    Returns
    -------
    suite : Suite
    notes : list of str
        Of what cannot be united.
    """
    update: dict[str, Any] = {
        name: _in_order([getattr(suite, name) for suite in suites]) for name in _SEVERAL
    }
    budgets = sorted({suite.tuning for suite in suites})
    notes = []
    if len(budgets) > 1:
        notes.append(
            f"the folders' last runs had tuning budgets of {', '.join(map(str, budgets[:-1]))} and "
            f"{budgets[-1]} configurations; suite.toml says {budgets[-1]}"
        )
    return suites[-1].model_copy(update=update | {"tuning": budgets[-1]}), notes


def with_earlier(suite: Suite, written: Path) -> Suite:
    """Return a suite with what the folder was asked for before, so that it names all it holds.

    Parameters
    ----------
    suite : Suite
        What is asked for now; its own settings hold.
    written : Path
        The folder's ``suite.toml``. One of another suite, or that cannot be read any more, is
        passed over.
    """
    try:
        before = load_suite(str(written))
    except InputError:
        return suite
    if before.name != suite.name or any(
        getattr(before, name) != getattr(suite, name) for name in FIXED
    ):
        return suite
    return united([before, suite])[0].model_copy(update={"tuning": suite.tuning})


def _in_order(lists: Sequence[list[Any]]) -> list[Any]:
    found: list[Any] = []
    for entries in lists:
        found += [entry for entry in entries if entry not in found]
    return found
