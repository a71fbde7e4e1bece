"""A CSV of errors: names are text as they stand, and a line that does not fit is named."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from weightcast.bench.cli import app as cli
from weightcast.bench.results.csv_cells import as_read, as_written, csv_text
from weightcast.bench.results.file_board import rank_csv
from weightcast.bench.results.inference.errors import RunErrors
from weightcast.bench.results.run_csv import run_table
from weightcast.bench.results.task_csv import TaskErrors, read_errors
from weightcast.datasets import InputError

TRICKY = [
    "NA", "None", "null", "nan", "", " ", "001", "1", "1.0", "1e5", "True", "inf", "-0", "a,b",
    'say "hi"', "two\nlines", "é", "=1+1", "+x", "-x", "@x", "'=x", "''-x", "'x'", "ridge[a]",
    "m[/x]", "[bold]", "\x1b[31m", "\t", "0x1f", "1_000", "２", "a;b", "日本",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(TRICKY), st.text(st.characters(codec="utf-8"), max_size=6)
).filter(lambda text: bool(text.strip()))


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "errors.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def written(rows: list[tuple[str, str, object]], **dialect: object) -> str:
    file = io.StringIO()
    writer = csv.writer(file, **dialect)  # type: ignore[arg-type]
    writer.writerows([("method", "task", "error"), *rows])
    return file.getvalue()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12, unique=True))
def test_when_names_look_like_anything_then_they_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    rows = [(as_written(m), as_written(t), i / 4) for i, (m, t) in enumerate(pairs)]
    found = read_errors(write(tmp_path_factory.mktemp("csv"), written(rows)))
    assert isinstance(found, TaskErrors)
    assert found.methods == sorted({method for method, _ in pairs})
    assert found.tasks == sorted({task for _, task in pairs})
    for i, (method, task) in enumerate(pairs):
        at = found.methods.index(method), found.tasks.index(task)
        assert found.errors[at] == i / 4
    assert np.isfinite(found.errors).sum() == len(pairs)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmethod,task,error\nNA,a,1\nlast-value,a,2\n",
        "method,task,error\r\nNA,a,1\r\nlast-value,a,2\r\n",
        "method,task,error\n\nNA,a,1\n\nlast-value,a,2",
        'method,task,error\n"NA","a","1"\n"last-value","a","2"\n',
        "error,seconds,task,method\n1,9,a,NA\n2e0,9,a,last-value\n",
        " method, task ,error\nNA,a, 1 \nlast-value,a,+2.\n",
    ],
)
def test_when_the_same_rows_are_written_differently_then_they_are_the_same(
    tmp_path: Path, text: str
) -> None:
    found = read_errors(write(tmp_path, text))
    assert isinstance(found, TaskErrors)
    assert (found.methods, found.tasks) == (["NA", "last-value"], ["a"])
    assert found.errors.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method,task\na,x\n", "lacks the column error"),
        ("", "lacks the column method, task, error"),
        ("method,task,error\n", "has no rows"),
        ("method,task,error,task\na,x,1,y\n", "two columns task"),
        ("method;task;error\na;x;1\n", "semicolons between its fields"),
        ("method\ttask\terror\na\tx\t1\n", "tabs between its fields"),
        ("method,task,error\na,x,1,9\n", "line 2 has 4 fields where the header has 3"),
        ("method,task,error\na,x,1\na,y\n", "line 3 has 2 fields"),
        ('method,task,error\n"two\nlines",x,1\nb,x,1,5\n', "line 4 has 4 fields"),
        ("method,task,error\na,x,1\n,,\n", "line 3: the method is empty"),
        ("method,task,error\na, ,1\n", "line 2: the task is empty"),
        (
            "method,task,error\na,x,1\nb,x,1\na,x,1\n",
            "line 4: 'a' has two errors on 'x', .* line 2",
        ),
        ("method,task,error\na,x,high\n", "line 2: the error 'high' is not a finite number"),
        ("method,task,error\na,x,-1\n", "the error '-1' is not"),
        ("method,task,error\na,x,inf\n", "the error 'inf' is not"),
        ("method,task,error\na,x,1e999\n", "the error '1e999' is not"),
        ("method,task,error\na,x,1_0\n", "the error '1_0' is not"),
        ("method,task,error\na,x,0x1\n", "the error '0x1' is not"),
        ("method,task,error\na,x,True\n", "the error 'True' is not"),
        ("method,task,error\na,x,1 2\n", "the error '1 2' is not"),
        ("method,task,error\na,x,２\n", "the error '２' is not"),
        ('method,task,error\na,x,"1\n', "line 2 is not CSV"),
        ('method,task,error\n"a"b,x,1\n', "line 2 is not CSV"),
        ("method,task,error\n" + "a" * 200_000 + ",x,1\n", "line 2 is not CSV: field larger"),
        (b"\xff\xfem\x00e\x00", "is not UTF-8"),
        (b"method,task,error\n\xe9,x,1\n", "is not UTF-8"),
    ],
)
def test_when_a_csv_is_wrong_then_one_line_says_how_and_where(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(InputError, match=says) as refused:
        read_errors(write(tmp_path, text))
    assert "\n" not in str(refused.value)


def damaged(text: bytes, random: random.Random) -> bytes:
    """Flip, cut, double or insert bytes."""
    found = bytearray(text)
    at = random.randrange(len(found))
    how = random.choice(["flip", "cut", "double", "insert", "drop"])
    if how == "flip":
        found[at] ^= 1 << random.randrange(8)
    elif how == "cut":
        del found[at:]
    elif how == "double":
        found[at:at] = found[max(0, at - 20) : at]
    elif how == "drop":
        del found[at : at + random.randint(1, 20)]
    else:
        found[at:at] = random.choice([b",", b'"', b"\n", b"\r", b"\0", b";", b"-", b"\xff", b"1e9"])
    return bytes(found)


@pytest.mark.parametrize(
    "cases", [range(300), pytest.param(range(300, 3300), marks=pytest.mark.slow)], ids=len
)
def test_when_bytes_of_a_csv_change_then_it_is_refused_in_one_line_or_every_line_counts(
    tmp_path: Path, cases: range
) -> None:
    rows = [(m, t, 1.5) for m in ("last-value", "NA", "a,b", "001") for t in ("x", "y", "1e5")]
    whole = written(list(rows)).encode()
    path = tmp_path / "errors.csv"
    for case in cases:
        path.write_bytes(damaged(whole, random.Random(case)))
        done = call("leaderboard", path)
        assert done.exit_code in (0, 2), (case, done.exception)
        if done.exit_code:
            assert len(done.stderr.splitlines()) == 1, case
            continue
        # What was read is what stands there: as many errors as the file has rows with one.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        lacking = table["error"].str.strip().str.casefold().isin(["", "nan", "na", "null", "none"])
        found = read_errors(path)
        assert isinstance(found, TaskErrors)
        assert np.isfinite(found.errors).sum() == (~lacking).sum(), case


@given(TEXTS)
def test_when_a_text_is_written_then_no_spreadsheet_takes_it_for_a_formula(text: str) -> None:
    cell = as_written(text)
    assert cell[0] not in "=+-@\t\r"
    assert as_read(cell) == text


def test_when_a_ranking_is_written_then_its_names_come_back_and_numbers_stay(
    tmp_path: Path,
) -> None:
    names = ["last-value", "=cmd|' /C calc'!A0", "-x", "ridge[a]", "@b"]
    rows = [(as_written(name), task, 1) for name in names for task in ("a", "b")]
    out = tmp_path / "out.csv"
    done = call("leaderboard", write(tmp_path, written(rows)), "--csv", out)
    assert done.exit_code == 0, done.output
    with out.open(encoding="utf-8", newline="") as file:
        back = list(csv.DictReader(file))
    assert {as_read(row["method"]) for row in back} == set(names)
    assert not any(row["method"].startswith(("=", "-", "@")) for row in back)
    table = pd.DataFrame({"skill": [-0.5], "reason": ["+1"], "both": [-3]}).astype({"both": object})
    assert csv_text(table) == "skill,reason,both\n-0.5,'+1,-3\n"


def test_when_names_hold_markup_or_controls_then_tables_show_them_as_text(tmp_path: Path) -> None:
    names = ["last-value", "ridge[a]", "ridge[b]", "m[/x]", "[red]x[/red]", "b\x1b[31mc", "d\ne"]
    done = call("leaderboard", write(tmp_path, written([(n, "t[/b]", 1) for n in names])))
    assert done.exit_code == 0, done.output
    shown = {line.split("  ")[0] for line in done.stdout.splitlines()[2:]}
    assert shown == {"last-value", *names[1:5], "b\\x1b[31mc", "d\\ne"}


def test_when_a_message_repeats_foreign_text_then_it_is_still_one_line(tmp_path: Path) -> None:
    done = call(
        "leaderboard", write(tmp_path, written([("a\nb", "x", 1)])), "--baseline", "c\n\x1b[31m"
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("weightcast: unknown baseline 'c")
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def of_runs(random: np.random.Generator) -> pd.DataFrame:
    """Errors of two methods on runs of two data sets; one draws random numbers."""
    rows = []
    for dataset, runs in (("a", 12), ("b", 8)):
        for context in (5, 10):
            for run in range(runs):
                for method, fits in (("last-value", 1), ("m", 3)):
                    rows += [
                        {
                            "method": method, "task": f"{dataset}, context {context}",
                            "dataset": dataset, "run": run, "rotation": run % 4, "fit": fit,
                            "horizon": horizon, "error": float(np.exp(random.normal(0, 0.3))),
                        }
                        for fit in range(fits) for horizon in ("5", "10", "last")
                    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize("seed", range(2))
def test_when_errors_of_runs_are_written_and_read_then_the_ranking_is_the_same(
    tmp_path: Path, seed: int, failed: int
) -> None:
    random = np.random.default_rng(seed)
    table = of_runs(random)
    table.loc[table.index[table["method"] == "m"][:failed], "error"] = np.nan
    first, again = tmp_path / "errors.csv", tmp_path / "again.csv"
    # In whatever order the lines stand.
    table.sample(frac=1, random_state=seed).to_csv(first, index=False)
    found = read_errors(first)
    assert isinstance(found, RunErrors)
    again.write_text(csv_text(run_table(found, "function", "train_loss")))
    one, other = rank_csv(first), rank_csv(again)
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.horizons == ["h5", "h10", "last"]
    s = next(s for s in one.ranking.standings if s.method == "m")
    assert s.failures == failed
    assert one.ranking.tasks == [f"{d}, context {c}" for d in "ab" for c in (5, 10)]
    assert s.skill.lower < s.skill.value < s.skill.upper


def test_when_a_file_has_runs_then_intervals_redraw_these_and_not_tasks(tmp_path: Path) -> None:
    table = of_runs(np.random.default_rng(0))
    # Runs that are all alike, and tasks that are not.
    factor = table["task"].map({name: 0.5 + i for i, name in enumerate(set(table["task"]))})
    table["error"] = np.where(table["method"] == "m", factor, 1.0)
    path = tmp_path / "errors.csv"
    table.to_csv(path, index=False)
    m = next(s for s in rank_csv(path).ranking.standings if s.method == "m")
    assert m.skill.upper - m.skill.lower == pytest.approx(0, abs=1e-9)
    median = table.groupby(["method", "task"])["error"].median().reset_index()
    median.to_csv(path, index=False)
    m = next(s for s in rank_csv(path).ranking.standings if s.method == "m")
    assert m.skill.upper - m.skill.lower > 0.1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method,task,run,error\na,x,1,1\na,x,1,2\n", "two errors on 'x', run '1', .* line 2"),
        ("method,task,run,error\na,x,,1\n", "line 2: the run is empty"),
        ("method,task,run,run,error\na,x,1,1,1\n", "two columns run"),
        (
            "method,task,run,rotation,error\na,x,1,0,1\nb,x,1,1,1\n",
            "line 3: run '1' is tested in rotation '1', and in '0' by line 2",
        ),
        ("method,task,run,error\na,x,1,1\nb,x,1,1\n", "x: 1 usable runs, 6 are needed"),
    ],
)
def test_when_a_csv_of_runs_is_wrong_then_one_line_says_how(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        rank_csv(write(tmp_path, text))
