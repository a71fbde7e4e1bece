"""Words that cannot be read end in one line that names them, and in exit status 2."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from weightcast.bench.cli.app import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--suite", "quick", "--jobs", "x"], "'--jobs'"),
        (["run", "--frob"], "No such option: --frob"),
        (["report", "here", "--format", "pdf"], "'html', 'markdown', 'latex'"),
        (["merge", "--out", "y"], "Missing argument 'DIR...'; see weightcast merge --help"),
        (["frob"], "No such command 'frob'; see weightcast --help"),
        (["--frob"], "No such option: --frob"),
        (["run", "--timeout"], "--timeout"),
    ],
)
def test_when_words_cannot_be_read_then_one_line_says_so(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, words, prog_name="weightcast")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("weightcast: ")
    assert said in line
    assert "--help" in line
    assert done.stdout == ""


def test_when_nothing_is_said_then_help_is_the_answer() -> None:
    done = CliRunner().invoke(app, [], prog_name="weightcast")
    assert done.exit_code == 2
    assert "leaderboard" in done.output
