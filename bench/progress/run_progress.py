"""Progress of a benchmark run: a live table of methods by data sets, or a plain line now and then.

The engine says what happens; each call only moves counters, so that a hundred thousand cells cost
next to nothing. A thread shows the counters: rich's refresh on a terminal, a timer elsewhere.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from weightcast.bench.progress.bar import EVERY, duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

#: Refreshes a second of the table.
RATE = 4.0
#: Spaces between two columns.
GAP = 3


class RunProgress(Protocol):
    """What is told of a run; every method may be called from any thread."""

    def started(self, dataset: str, method: str) -> None:
        """Say that a worker took up a fit with its cells."""

    def cell(self, dataset: str, method: str, ok: bool) -> None:
        """Say that one cell is stored."""

    def ended(self, dataset: str, method: str) -> None:
        """Say that a worker is done with a fit."""

    def left(self, seconds: float) -> None:
        """Give the seconds that are likely still to go; they count down until the next call."""

    def say(self, line: str) -> None:
        """Print a message, above the table where there is one."""


@contextmanager
def run_progress(suite: str, cells: Mapping[tuple[str, str], int]) -> Iterator[RunProgress]:
    """Show a run's progress on standard error over a block, and one line once it is over.

    Parameters
    ----------
    suite : str
    cells : mapping of (data set, method) to int
        Cells to run now. Rows and columns keep its order; later calls name pairs of it only.

    Yields
    ------
    RunProgress
        One that does nothing where no cell is to run, apart from printing what it is told to say.
    """
    if not sum(cells.values()):
        yield _Nothing()
        return
    counts = Counts(suite, cells)
    try:
        with _table(counts) if sys.stderr.isatty() else _lines(counts) as progress:
            yield progress
    finally:
        _print(counts.summary())


@dataclass(slots=True)
class Entry:
    """How far one method is on one data set, or on several."""

    total: int
    done: int = 0
    failed: int = 0
    running: int = 0

    @classmethod
    def over(cls, entries: Iterable[Entry]) -> Entry:
        """Add entries up."""
        whole = cls(0)
        for entry in entries:
            whole.total += entry.total
            whole.done += entry.done
            whole.failed += entry.failed
            whole.running += entry.running
        return whole

    @property
    def complete(self) -> bool:
        """Whether nothing is left."""
        return self.done >= self.total

    @property
    def rank(self) -> int:
        """Place among those that a low screen shows: running, failed, unfinished, done."""
        return (self.running > 0, self.failed > 0, not self.complete, True).index(True)


class Counts:
    """The counters of a run, and the sentences made of them: what is told of a run moves them.

    Parameters
    ----------
    suite : str
    cells : mapping of (data set, method) to int
    clock : callable
        Seconds from any start.

    Attributes
    ----------
    printer : callable
        What prints a message.
    """

    def __init__(
        self,
        suite: str,
        cells: Mapping[tuple[str, str], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.suite = suite
        self.printer: Callable[[str], None] = _print
        self._clock, self._start = clock, clock()
        self._end: float | None = None
        self._entries = {pair: Entry(total) for pair, total in cells.items()}
        self._latest: tuple[str, str] | None = None
        self._lock = threading.Lock()

    def started(self, dataset: str, method: str) -> None:
        with self._lock:
            self._entries[dataset, method].running += 1
            self._latest = dataset, method

    def cell(self, dataset: str, method: str, ok: bool) -> None:
        with self._lock:
            entry = self._entries[dataset, method]
            entry.done += 1
            entry.failed += not ok
            self._latest = dataset, method

    def ended(self, dataset: str, method: str) -> None:
        with self._lock:
            entry = self._entries[dataset, method]
            # A worker may die before it said that it started.
            entry.running = max(0, entry.running - 1)

    def left(self, seconds: float) -> None:
        with self._lock:
            self._end = self._clock() + seconds if math.isfinite(seconds) else None

    def say(self, line: str) -> None:
        self.printer(line)

    def entries(self) -> dict[tuple[str, str], Entry]:
        """Copy the entries as they are now."""
        # Without the lock: a signal's handler may say something, which draws the table, while the
        # code it interrupted holds it. No entry comes or goes, so that this is safe.
        return {pair: replace(entry) for pair, entry in self._entries.items()}

    def phrases(self) -> tuple[str, str, str]:
        """Say what is done, what failed of it, and the times."""
        whole, now, end = Entry.over(self.entries().values()), self._clock(), self._end
        times = f"{duration(now - self._start)} so far"
        # An estimate that ran out says nothing any more.
        if end is not None and end > now:
            times += f", about {duration(end - now)} left"
        done = f"suite {self.suite}: {whole.done}/{whole.total} cells"
        return done, f"{whole.failed} failed", times

    def line(self) -> str:
        """Write the line for where there is no terminal."""
        latest = self._latest
        where = "" if latest is None else f" ({latest[1]} on {latest[0]})"
        return ", ".join(self.phrases()) + where

    def summary(self) -> str:
        """Write the line that stays; a run that was stopped shows it in its cells."""
        whole = Entry.over(self.entries().values())
        done = str(whole.total) if whole.complete else f"{whole.done} of {whole.total}"
        noun = "cell" if whole.total == 1 else "cells"
        took = duration(self._clock() - self._start)
        return f"suite {self.suite}: {done} {noun}, {whole.failed} failed, {took}"


class _Nothing:
    def started(self, dataset: str, method: str) -> None:
        pass

    def cell(self, dataset: str, method: str, ok: bool) -> None:
        pass

    def ended(self, dataset: str, method: str) -> None:
        pass

    def left(self, seconds: float) -> None:
        pass

    def say(self, line: str) -> None:
        _print(line)


def _print(line: str) -> None:
    # One write, so that lines from two threads stay whole.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _lines(counts: Counts) -> Iterator[RunProgress]:
    over = threading.Event()

    def tell() -> None:
        # From a timer rather than from the calls: a long fit shows signs of life too.
        while not over.wait(max(EVERY, 0.01)):
            _print(counts.line())

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield counts
    finally:
        over.set()
        teller.join()


@contextmanager
def _table(counts: Counts) -> Iterator[RunProgress]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_interactive:  # such as TERM=dumb: no cursor to move
        with _lines(counts) as lines:
            yield lines
        return
    live = Live(
        RunTable(counts),
        console=console,
        refresh_per_second=RATE,
        transient=True,
        # What the program writes to a file or a pipe must not end up on the terminal.
        redirect_stdout=sys.stdout.isatty(),
    )
    with live:
        counts.printer = lambda line: console.print(Text(line))
        yield counts


class _Signs(NamedTuple):
    running: str
    complete: str
    nothing: str
    more: str


_SIGNS = _Signs("▸", "✓", "·", "…")
_ASCII = _Signs(">", "ok", "-", "...")


@dataclass(frozen=True)
class _Column:
    """Widths in one column's entries, so that counts stand under counts and marks under marks."""

    count: int
    mark: int
    failed: int

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> _Column:
        count, mark, failed = 1, 2, 0
        for entry in entries:
            count = max(count, 2 * len(str(entry.total)) + 1)
            mark = max(mark, 1 + len(str(entry.running)))
            if entry.failed:
                failed = max(failed, len(f" {entry.failed} failed"))
        return cls(count, mark, failed)

    @property
    def width(self) -> int:
        return self.count + 1 + self.mark + self.failed

    def write(self, entry: Entry, signs: _Signs) -> Text:
        from rich.text import Text

        if not entry.total:
            return Text(signs.nothing.rjust(self.count), "dim")
        text = Text(f"{entry.done}/{entry.total}".rjust(self.count) + " ")
        if entry.complete:
            text.append(signs.complete.ljust(self.mark), "" if entry.failed else "green")
        elif entry.running:
            text.append(f"{signs.running}{entry.running}".ljust(self.mark), "cyan")
        else:
            text.append(" " * self.mark)
        if entry.failed:
            text.append(f" {entry.failed} failed", "red")
        return text


class RunTable:
    """The counters as a rich renderable that fits the terminal it is shown on.

    Methods by data sets where they fit the width, else a row a method with its totals and the data
    sets it is on. Methods that exceed the height are counted in a line below.

    Parameters
    ----------
    counts : Counts
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        signs = _ASCII if options.ascii_only else _SIGNS
        grid, width = _Grid(self._counts.entries()), options.max_width
        caption = self._caption(width)
        # A header, an empty line, and one line for the cursor once the table is taken away.
        rows = options.size.height - len(caption.wrap(console, width)) - 3
        if rows >= 2:
            shown = grid.pick(rows)
            yield grid.wide(shown, signs, width) or grid.narrow(shown, signs, width)
            if len(shown) < len(grid.methods):
                yield Text(f"{signs.more} {grid.rest(shown)}", "dim", no_wrap=True)
            yield ""
        yield caption

    def _caption(self, width: int) -> Text:
        from rich.text import Text

        done, failed, times = phrases = self._counts.phrases()
        red = "" if failed.startswith("0 ") else "red"
        pause = ", " if len(", ".join(phrases)) <= width else ",\n"
        return Text.assemble(done, ", ", (failed, red), pause, (times, "dim"))


class _Grid:
    """Entries by method and data set; those with nothing to run anywhere are left out."""

    def __init__(self, entries: Mapping[tuple[str, str], Entry]) -> None:
        self.datasets, self.methods = _used(entries, 0), _used(entries, 1)
        self._entries = entries
        self._totals = {method: Entry.over(self._row(method)) for method in self.methods}

    def _row(self, method: str) -> list[Entry]:
        return [self._entries.get((dataset, method), Entry(0)) for dataset in self.datasets]

    def pick(self, rows: int) -> list[str]:
        """Choose the methods that matter most now; they keep their order, so that none jumps."""
        if len(self.methods) <= rows:
            return self.methods
        urgent = sorted(self.methods, key=lambda method: self._totals[method].rank)
        chosen = set(urgent[: rows - 1])
        return [method for method in self.methods if method in chosen]

    def rest(self, shown: list[str]) -> str:
        """Count the methods that are not shown."""
        hidden = [self._totals[method] for method in self.methods if method not in shown]
        done = sum(entry.complete for entry in hidden)
        return f"and {len(hidden)} more, {done} of them done"

    def wide(self, shown: list[str], signs: _Signs, width: int) -> Table | None:
        """Build methods by data sets, or nothing where that is wider than the terminal."""
        from rich.cells import cell_len
        from rich.text import Text

        # Over all methods, not those shown: a column that changes its width is hard to read.
        rows = {method: self._row(method) for method in self.methods}
        columns = [_Column.of(column) for column in zip(*rows.values(), strict=True)]
        widths = [self._method_width()] + [
            max(cell_len(dataset), column.width)
            for dataset, column in zip(self.datasets, columns, strict=True)
        ]
        if sum(widths) + GAP * (len(widths) - 1) > width:
            return None
        table = _table_of(zip(["method", *self.datasets], widths, strict=True))
        for method in shown:
            written = (
                column.write(entry, signs)
                for column, entry in zip(columns, rows[method], strict=True)
            )
            table.add_row(Text(method), *written)
        return table

    def narrow(self, shown: list[str], signs: _Signs, width: int) -> Table:
        """Build a row a method, with totals and the data sets it is on."""
        from rich.text import Text

        column = _Column.of(self._totals.values())
        room = max(8, width - GAP - column.width)
        method_width = min(self._method_width(), room)
        headers = [("method", method_width), ("cells", column.width)]
        room -= method_width + GAP
        if room >= 8:
            headers.append(("now on", room))
        table = _table_of(headers)
        for method in shown:
            entry = column.write(self._totals[method], signs)
            table.add_row(*[Text(method), entry, Text(self._now(method, room))][: len(headers)])
        return table

    def _method_width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(name) for name in ["method", *self.methods])

    def _now(self, method: str, room: int) -> str:
        row = zip(self.datasets, self._row(method), strict=True)
        names = [dataset for dataset, entry in row if entry.running]
        whole = ", ".join(names)
        if len(names) < 2 or len(whole) <= room:
            return whole
        return f"{names[0]} +{len(names) - 1}"


def _used(entries: Mapping[tuple[str, str], Entry], index: int) -> list[str]:
    """List the names at one index of the pairs, in their order, that have a cell to run."""
    totals: dict[str, int] = {}
    for pair, entry in entries.items():
        totals[pair[index]] = totals.get(pair[index], 0) + entry.total
    return [name for name, total in totals.items() if total]


def _table_of(headers: Iterable[tuple[str, int]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for header, width in headers:
        table.add_column(Text(header), no_wrap=True, overflow="ellipsis", width=width)
    return table
