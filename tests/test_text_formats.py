"""Rankings as Markdown and LaTeX: the numbers of the leaderboard, and nothing read as markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError
from weightcast.reports.formats.document import Document, Sheet, document_of
from weightcast.reports.formats.latex import latex
from weightcast.reports.formats.markdown import markdown
from weightcast.reports.view import View

_ESCAPES = re.compile(
    r"\\(?:[{}$&#%_,]|textbackslash\{\}|text\w+\{\}|ensuremath\{[^}]*\}|ldots\{\}|dag\{\})"
)
SUITE = """name = "small"
datasets = ["digits-mlp-sgd"]
methods = [
    "last-value", "damped-line", "line-search", {name = "damped-line", params = {lags = [1, 5]}},
]
contexts = [10]
rotations = 4
tuning = 0
jobs = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("formats")
    (place / "small.toml").write_text(SUITE, encoding="utf-8")
    run_suite(RunOptions(str(place / "small.toml"), place / "out"))
    return place / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder)


def _tables(text: str) -> list[list[list[str]]]:
    """Read Markdown's tables with a parser of somebody else's."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level > 3:
            assert all(child.type == "text" for child in token.children or [])
            found[-1][-1].append("".join(child.content for child in token.children or []))
    return found


def test_when_written_as_markdown_then_a_parser_reads_the_rankings_back(results: Results) -> None:
    weights, function = _tables(markdown(document_of(View(results))))
    for table, tier in ((weights, "weights"), (function, "function")):
        board = rank_results(results, tier=tier)
        head, *rows = table
        assert head[:3] == ["method", "skill", "95 %"]
        assert len({len(row) for row in table}) == 1
        expected = [f"{s.skill.value:+.3f}" for s in board.ranking.standings]
        assert [row[1] for row in rows] == expected
        names = [s.method for s in board.ranking.standings]
        assert [row[0].removesuffix(" (reference)") for row in rows] == names
    assert any(row[0] == "line-search (reference)" for row in function)


def test_when_asked_on_the_command_line_then_the_file_lies_in_the_folder(folder: Path) -> None:
    for name, file, start in (
        ("markdown", "report.md", "# Weightcast, suite small"),
        ("latex", "report.tex", "% In the preamble"),
    ):
        done = CliRunner().invoke(app, ["report", str(folder), "--format", name])
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == str(folder / file)
        assert (folder / file).read_text(encoding="utf-8").startswith(start)


def test_when_the_format_is_unknown_then_the_choices_are_told(folder: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder), "--format", "word"])
    assert done.exit_code == 2
    assert "markdown" in done.stderr


def test_when_nothing_is_ranked_then_no_file_is_written(results: Results, tmp_path: Path) -> None:
    from weightcast.reports.write import write_text_format

    few = replace(results, cells=results.cells[results.cells["label"] == "damped-line"])
    with pytest.raises(InputError, match="nothing here is ranked: unknown baseline"):
        write_text_format(few, "markdown", tmp_path / "page.md")
    assert not list(tmp_path.iterdir())


def test_when_methods_have_not_been_run_yet_then_they_are_no_failures(results: Results) -> None:
    cells = results.cells
    late = (cells["label"] == "damped-line") & (cells["run"] > 1)
    text = markdown(document_of(View(replace(results, cells=cells[~late]))))
    assert "damped-line is not ranked: run on 2 of 12 cells so far" in text
    assert "damped-line (run on 2 of 12 cells so far)" in text
    assert "0 of 2" not in text


def _document(text: str) -> Document:
    return Document(text, [text], [Sheet(text, ["method", text], [["a", text]], [text])], [text])


@given(st.text(max_size=60))
def test_when_foreign_text_is_in_a_table_then_markdown_reads_it_as_text(text: str) -> None:
    (table,) = _tables(markdown(_document(f"x{text}x")))
    assert [len(row) for row in table] == [2, 2]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_when_foreign_text_is_in_a_table_then_latex_has_no_command_of_it(text: str) -> None:
    lines = [line for line in latex(_document(f"x{text}x")).splitlines() if line[:1] != "%"]
    body = "\n".join(lines)
    (row,) = [line for line in lines if line.startswith("a & ")]
    bare = _ESCAPES.sub("", row.removesuffix(r" \\"))
    assert not re.search(r"[\\{}$#%_^]", bare)
    assert bare.count("&") == 1
    assert body.count(r"\begin{tabular}") == body.count(r"\end{tabular}") == 1


def test_when_numbers_are_negative_then_latex_sets_a_minus() -> None:
    sheet = Sheet("t", ["method", "skill"], [["lfd2-ols", "-0.093 [-0.1, +0.2]"], ["b", "1-2"]])
    text = latex(Document("t", [], [sheet], []))
    assert r"lfd2-ols & \ensuremath{-}0.093 [\ensuremath{-}0.1, +0.2] \\" in text
    assert r"b & 1-2 \\" in text
