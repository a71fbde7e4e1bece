"""Parts of a suite, run apart, become one result folder; what excludes each other is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands.merge import Merged, merge_folders
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.store.schema import seal_again
from weightcast.bench.engine.store.store import NAME, Store
from weightcast.bench.plan.method_facts import facts_of
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.mixed import environment_differences, mixed_note, packages_used
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError
from weightcast.reports.html import render_report

SUITE = """
name = "parts"
datasets = ["digits-mlp-sgd", "digits-mlp-adam"]
methods = ["last-value", "last-two-line", "ols-line"]
contexts = [10]
rotations = 4
"""
PARTS = {
    "a": (["digits-mlp-sgd"], ["last-value", "last-two-line"]),
    "b": (["digits-mlp-sgd"], ["last-two-line", "ols-line"]),
    "c": (["digits-mlp-adam"], ["last-value", "last-two-line", "ols-line"]),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the parts, each into a folder of its own."""
    folder = tmp_path_factory.mktemp("parts")
    suite = folder / "parts.toml"
    suite.write_text(SUITE, encoding="utf-8")
    for name, (datasets, methods) in PARTS.items():
        run_suite(RunOptions(str(suite), folder / name, methods=methods, datasets=datasets))
    return folder


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> Callable[[str], list[Path]]:
    """Copy some of the parts, for a test to change them."""

    def copy(names: str) -> list[Path]:
        found = [tmp_path / name for name in names]
        for folder in found:
            shutil.copytree(made / folder.name, folder)
        return found

    return copy


def change(folder: Path, *statements: str) -> None:
    """Change a store behind its back, foreign keys and all."""
    with closing(sqlite3.connect(folder / NAME)) as db:
        for statement in statements:
            assert db.execute(statement).rowcount, statement
        seal_again(db)
        db.commit()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def refused(folders: list[Path], out: Path, *says: str) -> None:
    before = {folder: contents(folder) for folder in (*folders, out) if folder.exists()}
    with pytest.raises(InputError) as error:
        merge_folders(folders, out)
    for text in says:
        assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert {folder: contents(folder) for folder in (*folders, out) if folder.exists()} == before


def counts(merged: Merged) -> tuple[int, int, int, int]:
    return merged.parts, merged.fits, merged.cells, merged.repeated


def test_when_parts_are_merged_then_the_folder_is_like_one_that_ran_all(
    made: Path, parts: Callable[[str], list[Path]], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["merge", *map(str, parts("abc")), "--out", str(out)])
    assert done.exit_code == 0, done.output
    line = f"24 fits and 72 cells from 3 folders in {out}, 12 cells were in several"
    assert done.stdout.splitlines() == [line]
    assert {path.name for path in out.iterdir()} == {
        NAME, "suite.toml", "environment.json", ".lock",
    }  # fmt: skip
    results = load_results(out)
    assert len(results.cells) == 72 * 2
    assert {s.failures for s in rank_results(results).ranking.standings} == {0}
    assert {e["dataset"] for e in results.examples} == set(results.gates) == {
        "digits-mlp-sgd", "digits-mlp-adam",
    }  # fmt: skip
    assert "Mixed environments" not in render_report(results)
    suite = load_suite(str(out / "suite.toml"))
    assert suite.datasets == ["digits-mlp-sgd", "digits-mlp-adam"]
    assert [entry.name for entry in suite.methods] == ["last-value", "last-two-line", "ols-line"]
    capsys.readouterr()
    assert run_suite(RunOptions(str(made / "parts.toml"), out)) == {"ok": 72}
    assert "72 of 72 cells are here, 0 to run" in capsys.readouterr().err


def test_when_a_cell_is_in_two_folders_then_the_first_ones_counts(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    a, b = parts("ab")
    for folder, seconds in ((a, 1), (b, 2)):
        change(folder, f"UPDATE cells SET predict_seconds = {seconds}")
    assert counts(merge_folders([a, b], tmp_path / "ab")) == (2, 12, 36, 12)
    assert counts(merge_folders([b, a], tmp_path / "ba")) == (2, 12, 36, 12)
    for name, seconds in (("ab", 1), ("ba", 2)):
        cells = load_results(tmp_path / name).cells
        assert len(cells) == 72
        shared = cells[cells["method"] == "last-two-line"]
        assert set(shared["predict_seconds"]) == {seconds}


def test_when_a_cell_failed_in_the_first_folder_then_it_gets_no_row_of_the_second(
    made: Path, parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    (a,) = parts("a")
    change(
        a,
        "DELETE FROM cells WHERE run = 3 AND tier = 'function'",
        "UPDATE cells SET status = 'timeout' WHERE run = 3",
        "UPDATE fits SET status = 'timeout', fit_seconds = NULL",
    )
    merge_folders([a, made / "a"], tmp_path / "out")
    cells = load_results(tmp_path / "out").cells
    assert set(cells["tier"][cells["run"] == 3]) == {"weights"}
    assert (cells["status"] == "ok").sum() == 2 * 11 * 2
    # The other cells have a result, so their fit has come off somewhere.
    assert cells["fit_seconds"].notna().all()


def test_when_folders_have_different_cells_of_a_fit_then_they_are_united(
    made: Path, parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    few, others = parts("a")[0], tmp_path / "others"
    shutil.copytree(made / "a", others)
    change(few, "DELETE FROM cells WHERE run % 2 = 0")
    change(others, "DELETE FROM cells WHERE run % 2 = 1")
    assert counts(merge_folders([few, others], tmp_path / "out")) == (2, 8, 24, 0)
    merged, whole = load_results(tmp_path / "out"), load_results(made / "a")
    assert merged.cells.equals(whole.cells)


def test_when_out_has_results_then_it_takes_part_first(
    parts: Callable[[str], list[Path]],
) -> None:
    a, b = parts("ab")
    change(a, "UPDATE cells SET predict_seconds = 1")
    (a / "mine.txt").write_text("kept", encoding="utf-8")
    merged = merge_folders([b, a], a)
    assert counts(merged) == (2, 12, 36, 12)
    cells = load_results(a).cells
    assert set(cells["predict_seconds"][cells["method"] != "ols-line"]) == {1}
    assert (a / "mine.txt").exists()
    assert not (a / ".merging").exists()
    # Again, and nothing is new.
    assert counts(merge_folders([b], a)) == (2, 12, 36, 24)


def test_when_environments_are_merged_then_the_latest_is_followed_by_all_others(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    folders = parts("abc")
    written = ["2026-01-02", "2026-01-03", "2026-01-01"]
    for folder, when in zip(folders, written, strict=True):
        path = folder / "environment.json"
        path.write_text(json.dumps({"written": when, "earlier": [{"written": "2025"}]}))
    merge_folders(folders, tmp_path / "out")
    found = load_results(tmp_path / "out").environment
    assert found["written"] == "2026-01-03"
    earlier = ["2025", "2026-01-01", "2026-01-02"]
    assert [each["written"] for each in found["earlier"]] == earlier


def test_when_a_method_was_tuned_in_one_part_only_then_the_merge_is_refused(tmp_path: Path) -> None:
    folders = []
    for budget in (0, 2):
        suite, out = tmp_path / f"{budget}.toml", tmp_path / f"out-{budget}"
        suite.write_text(f'{SUITE}tiers = ["weights"]\ntuning = {budget}\n', encoding="utf-8")
        run_suite(RunOptions(str(suite), out, methods=["lfd2-ols"], datasets=["digits-mlp-sgd"]))
        folders.append(out)
    says = ["lfd2-ols on digits-mlp-sgd", *map(str, folders), "run the suite again", "leave one"]
    refused(folders, tmp_path / "out", *says)
    # Into a folder with results, too, and nothing of it is lost.
    refused(folders[1:], folders[0], *says)


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (
            ["UPDATE cells SET fit = 'x' || fit", "UPDATE fits SET key = 'x' || key"],
            "last-two-line on digits-mlp-sgd, context 10, rotation 0",
        ),
        (
            [
                "UPDATE cells SET fit = 'x' || fit",
                "UPDATE fits SET key = 'x' || key, rotation = rotation + 4",
            ],
            "tested in one fold",
        ),
        (["UPDATE cells SET key = 'x' || key"], "different data or of different tiers"),
        (["UPDATE gates SET data = 'x'"], "different runs"),
    ],
    ids=["code", "folds", "test-run", "gates"],
)
def test_when_results_exclude_each_other_then_the_merge_is_refused(
    parts: Callable[[str], list[Path]], tmp_path: Path, statements: list[str], says: str
) -> None:
    a, b = parts("ab")
    change(b, *statements)
    refused([a, b], tmp_path / "out", says, "digits-mlp-sgd", str(a), str(b), "leave one out")


def test_when_folders_cannot_be_parts_of_one_suite_then_the_merge_is_refused(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    a, b = parts("ab")
    out = tmp_path / "out"
    refused([a, tmp_path / "none"], out, "is not a result folder")
    suite = b / "suite.toml"
    suite.write_text(suite.read_text().replace("rotations = 4", "rotations = 3"), encoding="utf-8")
    refused([a, b], out, "rotations = 4", "with 3")
    change(b, "UPDATE fits SET suite = 'other'")
    refused([a, b], out, "'parts'", "'other'")
    refused([a, b], a, "'parts'", "'other'")
    with closing(sqlite3.connect(b / NAME)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="store version 2"):
        merge_folders([a, b], out)


def test_when_a_folder_is_written_to_then_the_merge_is_refused(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    a, b = parts("ab")
    with FileLock(b / ".lock"):
        refused([a, b], tmp_path / "out", "another run is writing", str(b))
        refused([a], b, "another run is writing", str(b))


def test_when_out_is_no_place_for_results_then_the_merge_is_refused(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    (a,) = parts("a")
    with pytest.raises(InputError, match="is a file"):
        merge_folders([a], a / NAME)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds other files"):
        merge_folders([a], other)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    # What a killed merge left is no obstacle.
    (other / "thesis.tex").rename(other / ".lock")
    (other / ".merging").mkdir()
    (other / ".merging" / NAME).write_text("half")
    assert counts(merge_folders([a], other)) == (1, 8, 24, 0)


def test_when_another_program_has_out_open_then_its_store_is_not_replaced(
    parts: Callable[[str], list[Path]],
) -> None:
    a, b = parts("ab")
    with Store(a) as store:
        assert len(store.finished()) == 24
        with pytest.raises(InputError, match="another program has"):
            merge_folders([b], a)
    assert len(load_results(a).cells) == 48
    assert counts(merge_folders([b], a)) == (2, 12, 36, 12)


def test_when_tuning_budgets_differ_then_it_is_said(
    parts: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    a, b = parts("ab")
    suite = a / "suite.toml"
    suite.write_text(suite.read_text().replace("tuning = 0", "tuning = 6"), encoding="utf-8")
    merged = merge_folders([a, b], tmp_path / "out")
    assert "tuning budgets of 0 and 6 configurations" in merged.notes[0]
    assert load_suite(str(tmp_path / "out" / "suite.toml")).tuning == 6


def on_other_machine(folder: Path) -> None:
    """Let a folder's results be made with another processor and another numpy."""
    with Store(folder) as store:
        (here,) = store.rows("SELECT content FROM machines")
    machine = json.loads(here["content"])
    machine["cpu"], machine["packages"]["numpy"] = "Other CPU", "1.0"
    with closing(sqlite3.connect(folder / NAME)) as db:
        db.execute("UPDATE machines SET id = 'other', content = ?", (json.dumps(machine),))
        for table in ("fits", "cells"):
            db.execute(f"UPDATE {table} SET machine = 'other'")
        seal_again(db)
        db.commit()


@pytest.fixture
def mixed(parts: Callable[[str], list[Path]], tmp_path: Path) -> tuple[Path, Merged]:
    a, c = parts("ac")
    on_other_machine(c)
    return tmp_path / "mixed", merge_folders([a, c], tmp_path / "mixed")


def test_when_machines_are_mixed_then_every_verb_says_so(
    mixed: tuple[Path, Merged], made: Path, capsys: Any
) -> None:
    folder, merged = mixed
    found = load_results(folder)
    note = mixed_note(found.machines, found.packages_used())
    assert merged.notes == [note]
    assert note.startswith("cells were made in 2 environments: cpu ")
    assert "and Other CPU (36 cells)" in note
    assert "numpy " in note
    assert "seconds do not compare" in note
    done = CliRunner().invoke(app, ["leaderboard", str(folder)])
    assert f"note: {note}" in done.stdout.splitlines()
    run_suite(
        RunOptions(
            str(made / "parts.toml"), folder, methods=["last-value"], datasets=["digits-mlp-adam"]
        )
    )
    assert f"note: {note}" in capsys.readouterr().err.splitlines()


def test_when_machines_are_mixed_then_the_report_warns(mixed: tuple[Path, Merged]) -> None:
    results: Results = load_results(mixed[0])
    page = render_report(results)
    assert "Mixed environments" in page
    differences = environment_differences(results.machines)
    assert len(differences) == 2
    assert differences[1].startswith("numpy ")
    assert all(f"<li>{line}</li>" in page for line in differences)


def test_when_a_package_differs_that_no_method_uses_then_it_is_not_told() -> None:
    versions = {"numpy": "2", "torch": "2.4", "statsmodels": "0.14", "scipy": "1.13", "pebble": "5"}
    one: dict[str, Any] = {"packages": versions, "cells": 5}
    two = one | {"packages": {name: f"{version}.9" for name, version in versions.items()}}

    def told(methods: list[str], networks: bool = False) -> set[str]:
        found = environment_differences(
            [one, two], packages_used([facts_of(method, "{}") for method in methods], networks)
        )
        return {line.partition(" ")[0] for line in found}

    assert told(["last-value", "ols-line"]) == {"numpy"}
    assert told(["last-value"], networks=True) == {"numpy", "torch"}
    assert told(["lstm"]) == {"numpy", "torch"}
    assert told(["arima"]) >= {"numpy", "statsmodels", "scipy"}
    assert told(["theta"]) >= {"numpy", "scipy"}  # below sktime
    assert told(["not-registered-here"]) == set(versions)


def test_when_only_what_means_nothing_differs_then_machines_are_alike() -> None:
    one: dict[str, Any] = {"memory_bytes": 25276502016, "packages": {"numpy": "2"}, "cells": 5}
    assert environment_differences([]) == []
    assert environment_differences([one, {**one, "memory_bytes": 25276498944}]) == []
    assert environment_differences([one, {**one, "packages": {"numpy": None}, "cells": 0}]) == [
        "numpy 2 (5 cells) and not installed (only fits)"
    ]
