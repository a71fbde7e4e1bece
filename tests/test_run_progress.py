"""The live table of a run: what it counts, how it fits a terminal, what it says without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from weightcast.bench.progress import run_progress as module
from weightcast.bench.progress.run_progress import Counts, RunTable, run_progress

METHODS = ["last-value", "arima", "lfd2", "lstm"]
DATASETS = ["linreg-sgd", "digits-mlp-sgd"]
CELLS = {(dataset, method): 12 for dataset in DATASETS for method in METHODS}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def half_way(clock: Clock | None = None) -> Counts:
    """Last-value is done, arima has nothing on linreg-sgd, lfd2 has failures, lstm runs."""
    cells = CELLS | {("linreg-sgd", "arima"): 0}
    counts = Counts("quick", cells, clock or Clock())
    for dataset in DATASETS:
        finish(counts, dataset, "last-value")
    finish(counts, "digits-mlp-sgd", "lfd2", failed=3)
    for _ in range(2):
        counts.started("digits-mlp-sgd", "lstm")
    for _ in range(5):
        counts.cell("digits-mlp-sgd", "lstm", True)
    return counts


def finish(counts: Counts, dataset: str, method: str, failed: int = 0) -> None:
    counts.started(dataset, method)
    for cell in range(12):
        counts.cell(dataset, method, cell >= failed)
    counts.ended(dataset, method)


def drawn(counts: Counts, width: int = 100, height: int = 40) -> list[str]:
    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system=None, width=width, height=height, _environ={}
    )
    console.print(RunTable(counts))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def row(lines: list[str], method: str) -> str:
    (found,) = [line for line in lines if line.startswith(f"{method} ")]
    return " ".join(found.split())


def test_when_the_terminal_is_wide_then_rows_are_methods_and_columns_data_sets() -> None:
    lines = drawn(half_way())
    assert lines[0].split() == ["method", *DATASETS]
    assert [line.split()[0] for line in lines[1:5]] == METHODS
    assert row(lines, "last-value") == "last-value 12/12 ✓ 12/12 ✓"
    assert row(lines, "arima") == "arima · 0/12"
    assert row(lines, "lfd2") == "lfd2 0/12 12/12 ✓ 3 failed"
    assert row(lines, "lstm") == "lstm 0/12 5/12 ▸2"


def test_when_entries_differ_in_length_then_they_stand_under_each_other() -> None:
    lines = drawn(half_way())[:5]
    (start,) = {line.index("/12") for line in lines[1:] if "arima" not in line}
    assert lines[1].index("/12", start + 1) == lines[4].index("/12", start + 1)
    assert lines[4].index("5/12") == lines[0].index("digits-mlp-sgd") + 1


def test_when_a_fit_ends_then_its_mark_goes() -> None:
    counts = half_way()
    counts.ended("digits-mlp-sgd", "lstm")
    assert row(drawn(counts), "lstm").endswith("5/12 ▸1")
    for _ in range(2):  # the second is of a worker that died before it said that it started
        counts.ended("digits-mlp-sgd", "lstm")
    assert row(drawn(counts), "lstm").endswith("5/12")
    counts.started("digits-mlp-sgd", "lstm")
    assert row(drawn(counts), "lstm").endswith("5/12 ▸1")


def test_when_colours_are_shown_then_failures_are_red_and_what_never_runs_is_dim() -> None:
    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", width=100, height=40, _environ={}
    )
    console.print(RunTable(half_way()))
    text = out.getvalue()
    assert "\x1b[31m 3 failed\x1b[0m" in text
    assert "\x1b[31m3 failed\x1b[0m" in text  # the caption's
    assert "·" in next(part for part in text.split("\x1b[2m")[1:] if "·" in part).split("\x1b")[0]
    assert "\x1b[32m✓" in text
    assert "\x1b[36m▸2" in text


def test_when_nothing_failed_then_nothing_is_red() -> None:
    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system="standard", width=100, height=40, _environ={}
    )
    console.print(RunTable(Counts("quick", CELLS)))
    assert "0/96 cells, 0 failed" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def test_when_methods_or_data_sets_have_nothing_to_run_then_they_are_left_out() -> None:
    cells = {("a-set", "lstm"): 3, ("b-set", "lstm"): 0, ("a-set", "ar1"): 0, ("b-set", "ar1"): 0}
    lines = drawn(Counts("quick", cells))
    assert lines[0].split() == ["method", "a-set"]
    assert lines[1].split() == ["lstm", "0/3"]
    assert not any("ar1" in line for line in lines)


def test_when_names_hold_brackets_then_they_are_shown_as_they_are() -> None:
    name = "sktime:Naive(strategy=[bold])"
    assert row(drawn(Counts("quick", {("toy", name): 2})), name) == f"{name} 0/2"


def test_when_columns_do_not_fit_then_a_row_gives_totals_and_the_data_set_it_is_on() -> None:
    assert drawn(half_way(), width=43)[0].split() == ["method", *DATASETS]
    lines = drawn(half_way(), width=42)
    assert lines[0].split() == ["method", "cells", "now", "on"]
    assert row(lines, "last-value") == "last-value 24/24 ✓"
    assert row(lines, "arima") == "arima 0/12"
    assert row(lines, "lfd2") == "lfd2 12/24 3 failed"
    assert row(lines, "lstm") == "lstm 5/24 ▸2 digits-m…"


def test_when_a_method_is_on_more_data_sets_than_fit_then_the_rest_is_counted() -> None:
    cells = {(f"data-set-{number}", "lstm"): 4 for number in range(12)}
    counts = Counts("full", cells)
    for dataset in ("data-set-0", "data-set-7"):
        counts.started(dataset, "lstm")
    assert row(drawn(counts, width=60), "lstm") == "lstm 0/48 ▸2 data-set-0, data-set-7"
    for number in (*range(1, 7), *range(8, 12)):
        counts.started(f"data-set-{number}", "lstm")
    assert row(drawn(counts, width=60), "lstm") == "lstm 0/48 ▸12 data-set-0 +11"


@pytest.mark.parametrize("width", [8, 20, 31, 40, 47, 60, 79, 200])
@pytest.mark.parametrize("height", [1, 5, 7, 9, 24])
def test_when_the_terminal_is_small_then_nothing_is_wider_or_higher(
    width: int, height: int
) -> None:
    cells = {(dataset, f"method-{number}"): 1000 for dataset in DATASETS for number in range(30)}
    counts = Counts("quick", cells)
    counts.left(3000)
    counts.started("linreg-sgd", "method-3")
    lines = drawn(counts, width, height)
    assert max(map(len, lines)) <= width
    # The caption alone takes its lines, however low the screen.
    assert len(lines) < max(height, 2) or not any("method" in line for line in lines)


def test_when_methods_exceed_the_height_then_those_that_matter_come_first() -> None:
    methods = [f"m{number:02}" for number in range(20)]
    counts = Counts("quick", {("toy", method): 12 for method in methods})
    for method in methods[:12]:
        finish(counts, "toy", method, failed=int(method == "m05"))
    counts.started("toy", "m15")
    lines = drawn(counts, height=10)
    assert len(lines) < 10
    shown = [line.split()[0] for line in lines if line.startswith("m") and "toy" not in line]
    # The running and the failed one, then what waits, all in the suite's order.
    assert shown == ["m05", "m12", "m13", "m14", "m15"]
    assert "… and 15 more, 11 of them done" in lines


def test_when_the_screen_is_too_low_for_a_row_then_only_the_sentence_is_left() -> None:
    clock = Clock()
    counts = half_way(clock)
    clock.now += 45
    assert drawn(counts, height=5) == ["suite quick: 41/84 cells, 3 failed, 45 s so far"]


def test_when_the_sentence_is_too_wide_then_it_breaks_before_the_times() -> None:
    clock = Clock()
    counts = half_way(clock)
    counts.left(70)
    assert drawn(counts, width=50)[-2:] == [
        "suite quick: 41/84 cells, 3 failed,",
        "0 s so far, about 1 min 10 s left",
    ]


def test_when_the_terminal_knows_ascii_only_then_the_signs_are_ascii() -> None:
    counts = half_way()
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii")
    Console(
        file=file, force_terminal=True, color_system=None, width=100, height=7, _environ={}
    ).print(RunTable(counts))
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "5/12 >2" in text
    assert "... and 2 more, 1 of them done" in text


def test_when_time_passes_then_the_estimate_counts_down_and_goes_once_it_ran_out() -> None:
    clock = Clock()
    counts = Counts("quick", CELLS, clock)
    assert counts.line() == "suite quick: 0/96 cells, 0 failed, 0 s so far"
    counts.left(115)
    clock.now += 45
    counts.cell("digits-mlp-sgd", "lstm", False)
    assert counts.line() == (
        "suite quick: 1/96 cells, 1 failed, 45 s so far, about 1 min 10 s left "
        "(lstm on digits-mlp-sgd)"
    )
    clock.now += 100
    assert "left" not in counts.line()
    counts.left(float("nan"))
    assert "left" not in counts.line()


def test_when_a_run_is_over_then_the_summary_counts_cells_failures_and_time() -> None:
    clock = Clock()
    counts = Counts("quick", {("toy", "lstm"): 12}, clock)
    finish(counts, "toy", "lstm", failed=2)
    clock.now += 151
    assert counts.summary() == "suite quick: 12 cells, 2 failed, 2 min 31 s"


def test_when_many_threads_tell_then_every_cell_is_counted() -> None:
    counts = Counts("quick", CELLS)

    def work() -> None:
        for _ in range(2000):
            counts.started("linreg-sgd", "lstm")
            counts.cell("linreg-sgd", "lstm", False)
            counts.ended("linreg-sgd", "lstm")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        drawn(counts)
    entry = counts.entries()["linreg-sgd", "lstm"]
    assert (entry.done, entry.failed, entry.running) == (16000, 16000, 0)


def test_when_a_signal_interrupts_a_count_then_the_table_can_still_be_drawn() -> None:
    counts = half_way()
    drawing = threading.Thread(target=drawn, args=(counts,), daemon=True)
    with counts._lock:  # what the interrupted code may hold while its handler says something
        drawing.start()
        drawing.join(20)
        assert not drawing.is_alive()


def test_when_there_is_no_terminal_then_plain_lines_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    seen = ""
    with run_progress("quick", CELLS) as progress:
        progress.started("digits-mlp-sgd", "lstm")
        progress.cell("digits-mlp-sgd", "lstm", False)
        progress.left(600)
        progress.say("lstm skips [two] runs")
        deadline = time.monotonic() + 20
        while seen.count("10 min 00 s left (lstm on digits-mlp-sgd)\n") < 2:
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)
            seen += capsys.readouterr().err
    seen += capsys.readouterr().err
    lines = seen.splitlines()
    assert "lstm skips [two] runs" in lines
    assert any(line.startswith("suite quick: 1/96 cells, 1 failed, ") for line in lines)
    assert re.fullmatch(r"suite quick: 1 of 96 cells, 1 failed, \d+ s", lines[-1])
    assert "\x1b" not in seen


def test_when_a_run_is_short_then_only_its_summary_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with run_progress("quick", {("toy", "lstm"): 1}) as progress:
        progress.cell("toy", "lstm", True)
    assert capsys.readouterr().err == "suite quick: 1 cell, 0 failed, 0 s\n"


def test_when_the_block_raises_then_the_summary_says_how_far_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), run_progress("quick", CELLS):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "suite quick: 0 of 96 cells, 0 failed, 0 s\n"
    assert threading.active_count() == before


def test_when_nothing_is_to_run_then_only_messages_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with run_progress("quick", dict.fromkeys(CELLS, 0)) as progress:
        progress.started("toy", "lstm")
        progress.cell("toy", "lstm", True)
        progress.ended("toy", "lstm")
        progress.left(10)
        progress.say("nothing to run")
    assert capsys.readouterr().err == "nothing to run\n"


SCRIPT = """
import sys, time
from weightcast.bench.progress.run_progress import run_progress

cells = {(d, m): 3 for d in ("linreg-sgd", "digits-mlp-sgd") for m in ("arima", "lstm")}
with run_progress("quick", cells) as progress:
    progress.left(500)
    for dataset, method in cells:
        progress.started(dataset, method)
        for number in range(3):
            progress.cell(dataset, method, number > 0)
            if (dataset, method, number) == ("digits-mlp-sgd", "arima", 1):
                time.sleep(0.6)  # two refreshes
        progress.say(f"{method} is [done] on {dataset}")
        progress.ended(dataset, method)
    print("for the pipe")
    if sys.argv[1:] == ["stop"]:
        raise KeyboardInterrupt
print("rich" in sys.modules)
"""


def run_on_terminal(tmp_path: Path, *arguments: str, **environment: str) -> tuple[str, str, int]:
    """Run the script with standard error on a pseudo-terminal of 24 lines by 90 columns."""
    pty = pytest.importorskip("pty")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, bytes([24, 0, 90, 0, 0, 0, 0, 0]))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=kept | {"TERM": "xterm", "PYTHONUTF8": "1"} | environment,
    )
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
    out, _ = process.communicate(timeout=300)
    return shown.decode(), out.decode(), process.returncode


def test_when_standard_error_is_a_terminal_then_a_table_lives_and_the_summary_stays(
    tmp_path: Path,
) -> None:
    shown, out, status = run_on_terminal(tmp_path)
    assert status == 0
    assert "arima is [done] on linreg-sgd" in shown
    assert "▸1" in shown
    assert "3/3" in shown
    assert re.search(r"\d s so far, about 8 min [12]\d s left", shown)
    assert "\x1b[?25l" in shown
    # The cursor is back and the table erased before the line that stays.
    table, summary = shown.rsplit("suite quick: 12 cells", 1)
    assert re.fullmatch(r", 4 failed, \d+ s\r\n", summary)
    assert table.rindex("\x1b[?25h") > table.rindex("12/12 cells")
    assert table.endswith("\x1b[1A\x1b[2K")
    assert out == "for the pipe\nTrue\n"


def test_when_a_run_on_a_terminal_is_stopped_then_the_cursor_comes_back(tmp_path: Path) -> None:
    shown, out, status = run_on_terminal(tmp_path, "stop")
    assert status != 0
    assert shown.count("\x1b[?25h") == shown.count("\x1b[?25l") == 1
    assert "suite quick: 12 cells, 4 failed" in shown.split("\x1b[?25h")[1]
    assert out == "for the pipe\n"


def test_when_the_terminal_cannot_move_its_cursor_then_lines_are_plain(tmp_path: Path) -> None:
    shown, _, status = run_on_terminal(tmp_path, TERM="dumb")
    assert status == 0
    assert "\x1b" not in shown
    assert "arima is [done] on linreg-sgd\r\n" in shown
    assert shown.splitlines()[-1].startswith("suite quick: 12 cells, 4 failed")


def test_when_there_is_no_terminal_then_rich_is_not_imported(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "for the pipe\nFalse\n"
    assert done.stderr.splitlines()[-1].startswith("suite quick: 12 cells, 4 failed")
