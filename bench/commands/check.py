"""`weightcast check`: the contract's checks on some methods, told as they are done."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Any

from weightcast.bench.progress.signs_of_life import signs_of_life
from weightcast.methods.contract import CHECKS, Outcome, Subject, run_check

#: Seconds between lines on progress.
_EVERY = 2.0


def check_methods(
    names: Sequence[str], tell: Callable[[str], object] | None = None
) -> list[dict[str, Any]]:
    """Run every check on every method.

    Parameters
    ----------
    names : sequence of str
    tell : callable, optional
        Gets a line a check as soon as it is done; without it, how far it is goes to standard error.

    Returns
    -------
    list of dict
        A row a check: ``method``, ``check``, ``status``, ``reason``, ``seconds``.

    Raises
    ------
    InputError
        If there is no method of a name; then nothing is checked.
    """
    rows: list[dict[str, Any]] = []
    told = time.monotonic()
    for subject in [Subject(name) for name in names]:
        counts: Counter[str] = Counter()
        told_before: dict[str, str] = {}
        with signs_of_life(f"checking {subject.name}"):
            for done, check in enumerate(CHECKS, 1):
                # What a method prints is no part of our answer.
                with redirect_stdout(sys.stderr):
                    outcome = run_check(subject, check)
                rows.append(asdict(outcome))
                counts[outcome.status] += 1
                if tell is not None:
                    tell(_line(outcome, told_before))
                elif time.monotonic() - told > _EVERY:
                    told = time.monotonic()
                    left = f"{done} of {len(CHECKS)} checks done"
                    print(f"checking {subject.name}: {left}", file=sys.stderr, flush=True)
        if tell is not None:
            said = ", ".join(f"{counts[s]} {s}" for s in ("passed", "failed", "skipped"))
            tell(f"{subject.name}: {said}")
    return rows


def _line(outcome: Outcome, told: dict[str, str]) -> str:
    """Say a check in a line; a reason that an earlier check gave is not said again."""
    reason = outcome.reason
    if outcome.status == "failed":
        # The same fault in blocks of other sizes is the same.
        first = told.setdefault(re.sub(r"\([\d, ]+\)", "", reason), outcome.check)
        reason = reason if first == outcome.check else f"as {first}"
    said = f": {reason}" if reason else ""
    took = f" ({outcome.seconds:.1f} s)" if outcome.seconds >= _EVERY else ""
    return f"{outcome.status:8} {outcome.check}{said}{took}"
