"""Several result folders: a page each, and one that leads to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from weightcast.bench.cli.app import app
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import load_results
from weightcast.reports.numbers import fixed

Folders = tuple[Path, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base = tmp_path_factory.mktemp("both")
    for name, dataset, method in (
        ("first", "linreg-gd", "last-two-line"),
        ("second<b>", "quadratic-bowl", "ols-line"),
    ):
        suite = base / f"{dataset}.toml"
        suite.write_text(
            f'name = "of-{dataset}"\ndatasets = ["{dataset}"]\ncontexts = [10]\njobs = 1\n'
            f'methods = ["last-value", "{method}"]\n',
            encoding="utf-8",
        )
        run_suite(RunOptions(str(suite), base / name))
    return base / "first", base / "second<b>"


def _report(*words: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_when_several_folders_are_named_then_each_has_a_page_that_the_first_leads_to(
    folders: Folders, tmp_path: Path
) -> None:
    done = _report(*folders, "--out", tmp_path / "new" / "pages")
    assert done.exit_code == 0, done.output
    out = tmp_path / "new" / "pages"
    assert done.stdout.strip() == str(out / "index.html")
    assert {path.name for path in out.iterdir()} == {"index.html", "first.html", "second<b>.html"}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<h2><a href="([^"#]+)">', page) == ["first.html", "second%3Cb%3E.html"]
    assert "<b>" not in page
    for folder in folders:
        alone = (out / f"{folder.name}.html").read_text(encoding="utf-8")
        _report(folder, "--out", tmp_path / "alone.html")
        assert alone == (tmp_path / "alone.html").read_text(encoding="utf-8")
        answer = re.search(r'<p class="verdict">.*?</p>', alone, re.S)
        assert answer is not None
        assert answer[0] in page


def test_when_several_folders_are_named_then_skills_are_those_of_their_own_rankings(
    folders: Folders, tmp_path: Path
) -> None:
    _report(*folders, "--out", tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col"[^>]*><button[^>]*>([^<]*)<', page)
    assert heads == ["method", "first: weights", "second&lt;b&gt;: weights"]
    cells = {
        re.search(r'class="name">(?:<svg.*?</svg>)?([^<]*)<', row)[1]: re.findall(  # type: ignore[index]
            r'<td class="number"[^>]*>([^<]*)', row
        )
        for row in re.findall(r"<tr data-method.*?</tr>", page, re.S)
    }
    expected = {"last-value": ["0.00", "0.00"]}
    for place, folder in enumerate(folders):
        best = rank_results(load_results(folder)).ranking.standings
        (other,) = (one for one in best if one.method != "last-value")
        row = ["—", "—"]
        row[place] = fixed(other.skill.value, signed=True)
        expected[other.method] = row
    assert {name: [cell.strip() for cell in row] for name, row in cells.items()} == expected


def test_when_folders_or_out_do_not_fit_then_one_line_says_so_and_nothing_is_written(
    folders: Folders, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    index = tmp_path / "index"
    first, second = folders
    out = tmp_path / "out"
    for words, said in (
        ((first, second), "several folders need --out"),
        ((first, first, "--out", out), "two folders would have the page first.html"),
        ((first, index, "--out", out), "rename the folder index"),
        ((first, second, "--out", file), "is a file; name a folder"),
        ((first, second, "--out", out, "--format", "markdown"), "--format markdown is of one"),
    ):
        done = _report(*words)
        assert done.exit_code == 2, words
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert file.read_text(encoding="utf-8") == "mine"
    assert not out.exists()


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 360)])
def test_when_axe_looks_at_the_first_page_then_it_finds_nothing_wrong(
    folders: Folders,
    tmp_path: Path,
    accessibility: Callable[..., list[str]],
    scheme: str,
    width: int,
) -> None:
    _report(*folders, "--out", tmp_path)
    assert accessibility(tmp_path / "index.html", scheme, width) == []
