"""Progress with time left: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

#: Seconds between plain lines.
EVERY = 10.0


class Advance(Protocol):
    """Say that a unit is done: a word on what it was, and the seconds left where they are known."""

    def __call__(self, last: str, left: float | None = None) -> None: ...


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Advance]:
    """Show progress on standard error over a block.

    Yields
    ------
    Advance
        Call it once a unit. Without seconds left of its own it takes the mean unit's.
    """
    if total == 0:
        yield lambda last, left=None: None
    elif sys.stderr.isatty():
        yield from _bar(what, total)
    else:
        yield from _lines(what, total)


def duration(seconds: float) -> str:
    """Write seconds the way people say them, e.g. ``45 s`` or ``3 min 05 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size_text(count: int) -> str:
    """Write bytes the way people say them, e.g. ``1.5 MiB``."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


class _Clock:
    def __init__(self, total: int) -> None:
        self.start = time.monotonic()
        self.total, self.done = total, 0

    def tick(self, left: float | None) -> str:
        self.done += 1
        elapsed = time.monotonic() - self.start
        if left is None:
            left = elapsed / self.done * (self.total - self.done)
        return f"{duration(elapsed)} so far, about {duration(left)} left"


def _bar(what: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
    )
    clock = _Clock(total)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, said="")

        def advance(last: str, left: float | None = None) -> None:
            bar.update(task, advance=1, said=f"{clock.tick(left)}  {last}")

        yield advance


def _lines(what: str, total: int) -> Iterator[Advance]:
    clock, shown = _Clock(total), time.monotonic()

    def advance(last: str, left: float | None = None) -> None:
        nonlocal shown
        said, now = clock.tick(left), time.monotonic()
        if now - shown >= EVERY or clock.done == total:
            shown = now
            print(f"{what}: {clock.done}/{total}, {said} ({last})", file=sys.stderr, flush=True)

    yield advance
