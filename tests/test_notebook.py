"""The benchmark from Python, as a person in a notebook uses it: no command line anywhere."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import weightcast.bench
import weightcast.reports
from weightcast.bench import Results, load_results, rank, run_suite
from weightcast.datasets import InputError
from weightcast.reports import write_report

SCRIPT = """
import sys
from pathlib import Path
from weightcast.bench import load_results, rank, run_suite
light = not {"numpy", "pandas", "torch", "typer"} & set(sys.modules)
from weightcast.reports import write_report

if __name__ == "__main__":
    assert light
    folder = Path(sys.argv[1])
    statuses = run_suite(
        "quick", folder, methods=["last-value", "last-two-line"], datasets=["linreg-gd"]
    )
    assert statuses == {"ok": 400}, statuses
    results = load_results(folder)
    errors = results.cells.groupby("method")["rel_sum"].median()
    assert errors["last-value"] == 1.0
    board = rank(results)
    assert list(board["method"])[0] in errors.index
    page = write_report(results)
    assert page == folder / "report.html"
    assert not {"typer", "weightcast.bench.cli"} & set(sys.modules)
    print("best:", board["method"][0])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder that a script made, in a process of its own."""
    place = tmp_path_factory.mktemp("notebook")
    (place / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py", "results"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("best: last-")
    return place / "results"


def test_when_a_suite_ran_then_results_ranking_and_report_are_at_hand(
    folder: Path, tmp_path: Path
) -> None:
    results = load_results(str(folder))
    assert isinstance(results, Results)
    board = rank(results)
    assert rank(folder).equals(board)
    assert set(board["method"]) == {"last-value", "last-two-line"}
    assert board.set_index("method")["skill"]["last-value"] == 0.0
    assert board["skill"].is_monotonic_decreasing
    assert board.attrs["notes"] == []
    page = write_report(folder, tmp_path / "page.html")
    assert page.read_text(encoding="utf-8") == (folder / "report.html").read_text(encoding="utf-8")


def test_when_a_csv_of_errors_is_given_then_it_is_ranked(tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    path.write_text("method,task,error\nlast-value,a,2\nours,a,1\n", encoding="utf-8")
    assert list(rank(path)["method"]) == ["ours", "last-value"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"suite": "quik"}, "did you mean quick"),
        ({"methods": ["lfd3"]}, "unknown method 'lfd3'"),
        ({"datasets": ["linreg"]}, "unknown data set 'linreg'"),
        ({"timeout": float("nan")}, "--timeout nan is not a time limit"),
        ({"jobs": 10**20}, "give 1 to"),
        ({"max_memory": 1}, "megabytes a worker process"),
        ({"data": "/no/such/folder"}, "is not there"),
        ({"plugins": ["/no/such/plugin.py"]}, "there is no plugin file"),
        ({"missing": "guess"}, "choices are refuse, record, skip"),
        ({"methods": []}, "names none"),
    ],
)
def test_when_an_argument_is_wrong_then_it_is_said_and_nothing_is_written(
    arguments: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        run_suite(**({"suite": "quick", "out": tmp_path / "out"} | arguments))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_when_a_name_of_a_ranking_is_unknown_then_choices_are_named(folder: Path) -> None:
    for wrong, says in (("tier", "unknown tier"), ("metric", "unknown metric")):
        with pytest.raises(InputError, match=says):
            rank(folder, **{wrong: "no-such"})  # type: ignore[arg-type]


@pytest.mark.parametrize("package", [weightcast.bench, weightcast.reports])
def test_when_a_name_is_public_then_it_is_there_and_documented(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert sorted(package._PLACES) == sorted(names)  # type: ignore[attr-defined]
    for name in names:
        found = getattr(package, name)
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            for section in ("Parameters", "Returns" if name != "write_report" else "Raises"):
                assert f"{section}\n-----" in inspect.getdoc(found), (name, section)  # type: ignore[operator]
