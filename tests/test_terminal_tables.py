"""Tables on a terminal: no number is ever cut, at whatever width."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from weightcast.bench.cli.table import Column, fit, lines, whole_width
from weightcast.bench.commands.run import RunOptions, run_suite

#: What a number looks like in a table, with its sign, its interval's brackets and its unit.
NUMBER = re.compile(r"[+\-−]?\d[\d.,:eE+\-−]*")

_NAMES = st.from_regex(r"[a-z]{1,9}(-[a-z0-9]{1,5}){0,2}(\(a=[0-9]\.[0-9]\))?", fullmatch=True)
_NUMBERS = st.floats(-9, 9).map(lambda value: f"{value:+.3f}")
_TEXTS = st.lists(_NAMES | _NUMBERS, min_size=5, max_size=9).map(" ".join)
_HEADS = st.sampled_from(
    ["skill", "95 %", "IQM", "win rate", "mean rank", "error over last-value's", "what", "runs"]
)


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    count = draw(st.integers(1, 5))
    heads = draw(st.lists(_HEADS, unique=True, max_size=6))
    kinds = [_NAMES, *(draw(st.sampled_from([_NUMBERS, _TEXTS])) for _ in heads)]
    return [
        Column(head, draw(st.lists(kind, min_size=count, max_size=count)))
        for head, kind in zip(["method", *heads], kinds, strict=True)
    ]


@settings(deadline=None)
@given(tables(), st.integers(32, 140))
def test_when_a_table_has_any_width_then_it_fits_and_no_number_is_cut(
    table: list[Column], width: int
) -> None:
    kept, gone = fit(table, width)
    assert kept[0] is table[0]
    assert sorted([*(c.name for c in kept), *gone]) == sorted(c.name for c in table)
    assert sum(column.width for column in kept) + 2 * (len(kept) - 1) <= width
    for column in kept:
        for cell in (column.name, *column.cells):
            shown = lines(cell, column.width)
            assert max(map(cell_len, shown.split("\n"))) <= column.width
            assert "".join(shown.split()) == "".join(cell.split())
            for number in NUMBER.findall(cell):
                assert any(number in line for line in shown.split("\n")), (cell, shown)
    if whole_width(table) <= width:
        assert not gone


RANKING = ["mean rank", "IQM", "win rate", "error over last-value's", "failures", "ranks"]


def test_when_columns_have_to_go_then_the_least_important_go_first() -> None:
    heads = ["method", "skill", "95 %", *reversed(RANKING)]
    table = [Column(head, ["1.00 [0.90, 1.10]"]) for head in heads]
    gone: list[str] = []
    for width in range(200, 40, -1):
        went = fit(table, width)[1]
        assert went[: len(gone)] == gone
        gone = went
    assert gone[: len(RANKING)] == RANKING
    assert [column.name for column in fit(table, 40)[0]] == ["method", "skill"]


def on_terminal(width: int, *arguments: object) -> str:
    """Return what a command prints on a pseudo-terminal of so many columns."""
    pty = pytest.importorskip("pty")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "weightcast.bench", *map(str, arguments)],
        stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL,
        env=kept | {"TERM": "xterm", "PYTHONUTF8": "1", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(reader)
    assert process.wait(300) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "out"
    methods = ["last-value", "ols-line", "lfd2-ols"]
    run_suite(RunOptions("quick", out, methods=methods, datasets=["digits-mlp-sgd"]))
    return out


def test_when_a_leaderboard_is_printed_on_a_narrow_terminal_then_its_numbers_are_whole(
    results: Path,
) -> None:
    wide = on_terminal(300, "leaderboard", results)
    assert "left out" not in wide
    numbers = set(NUMBER.findall(wide))
    for width in (40, 60, 80):
        shown = on_terminal(width, "leaderboard", results)
        assert f"left out at {width} characters a line: mean rank, IQM" in shown
        rows = re.findall(r"^(?:lfd2-ols|ols-line|last-value) .*$", shown, re.MULTILINE)
        assert len(rows) == 3
        assert max(map(len, rows)) <= width
        for row in rows:
            found = NUMBER.findall(row.partition(" ")[2])
            assert found
            assert set(found) <= numbers


def test_when_a_list_is_printed_on_a_narrow_terminal_then_it_fits() -> None:
    shown = on_terminal(40, "list", "datasets")
    table, _, note = shown.partition("\nleft out at 40 characters a line: ")
    assert max(map(cell_len, table.splitlines())) <= 40
    assert note.startswith("kind, track, ")
