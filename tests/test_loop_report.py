"""The loop tier in leaderboard, export and report, from made-up runs that a real store holds."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from weightcast.bench.cli.app import app
from weightcast.bench.engine.events import LoopDone
from weightcast.bench.engine.store.store import Store
from weightcast.bench.loop.board import loop_board, uses_text
from weightcast.bench.plan.loop_row import loop_row
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun, LoopSettings
from weightcast.bench.results.cells import IDENTITY
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError
from weightcast.reports.html import render_report
from weightcast.reports.loop_view import LoopView
from weightcast.reports.numbers import fixed, interval
from weightcast.reports.sections.agreement import agreement
from weightcast.reports.sections.failures import count_statuses, group_loop_failures
from weightcast.reports.sections.loop import loop_section, takeaway
from weightcast.reports.view import Task, View

ATTACK = "ValueError: <script>alert(1)</script>"
BUDGET, EVERY = 900, 45
STEPS = np.arange(0, BUDGET + 1, EVERY)
#: Learning rate → how fast the loss falls; the second best is inside the grid.
SPEEDS = {0.1: 0.006, 0.15: 0.01, 0.225: 0.008, 0.3375: 0.0056}
SETTINGS = LoopSettings()
SETS = ("digits-mlp-sgd", "digits-cnn-sgd")
Row = dict[str, Any]


def _rows(
    dataset: str,
    method: str,
    factor: float = 1.0,
    jumps: bool = False,
    salt: int = 0,
    **found: Any,
) -> list[Row]:
    """Runs of one method at every learning rate and seed; a loss falls ``factor`` times as fast."""
    rows = []
    for rate, speed in SPEEDS.items():
        for role in ("validation", "report", *(["calibration"] if method == "no-forecast" else [])):
            for seed in SETTINGS.seeds(role):
                noise = np.random.default_rng([seed, salt, int(1e4 * rate)]).normal()
                rows.append(
                    _row(dataset, method, rate, seed, role, factor * speed * math.exp(0.02 * noise))
                    | ({"jumps": _jumps(speed)} if jumps else {})
                    | found
                )
    return rows


def _row(dataset: str, method: str, rate: float, seed: int, role: str, speed: float) -> Row:
    run = LoopRun(rate, seed, role, f"{dataset} {method} {rate} {seed}")
    group = LoopGroup("s", dataset, method, "{}", "always", "sgd", "constant", (run,), SETTINGS)
    losses = np.exp(-speed * STEPS).tolist()
    measured = {"step": STEPS.tolist()}
    for prefix in ("", "average-100_"):
        measured |= {
            f"{prefix}train_loss": losses,
            f"{prefix}test_loss": losses,
            f"{prefix}test_accuracy": (1 - np.exp(-speed * STEPS)).tolist(),
        }
    times = {"step_seconds": 0.5, "forward_seconds": 0.1, "seconds": 9.0}
    shared = {"jobs": 1, "threads": 1, "machine": "{}"}
    return loop_row(group, run) | {"measured": measured} | times | shared


def _jumps(speed: float) -> list[Row]:
    """Nine jumps of a second each; the third of every three leads to a higher loss."""
    found = []
    for place in range(9):
        step = 90 * (place + 1)
        loss = math.exp(-speed * step)
        after = loss * (1.01 if place % 3 == 2 else 0.99)
        jump = {"step": step, "before": loss, "after": after, "accepted": True}
        found.append(jump | {"seconds": 1.0, "forwards": 0})
    return found


def _all(dataset: str) -> list[Row]:
    """Plain training and null, one method ahead, one that pays for its fit, one that fails."""
    failed = {"status": "failed", "reason": ATTACK, "traceback": f"Traceback\n{ATTACK}\n"}
    return [
        *_rows(dataset, "no-forecast"),
        *_rows(dataset, "null", salt=1),
        *_rows(dataset, "ols-line", 1.5, jumps=True),
        *_rows(dataset, "lfd2-ols", 0.6, jumps=True, fit_seconds=50.0, fit_steps=2700),
        *_rows(dataset, "damped-line", **failed),
    ]


def _store(folder: Path, rows: Sequence[Row], *, create: bool = True) -> Path:
    with Store(folder, create=create) as store:
        store.add([LoopDone(("d", "m"), list(rows))])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets in the loop and nothing else."""
    rows = [row for dataset in SETS for row in _all(dataset)]
    return _store(tmp_path_factory.mktemp("loop") / "only", rows)


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder)


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return render_report(results)


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# --- leaderboard ---------------------------------------------------------------------------


def test_when_a_folder_holds_loops_alone_then_the_leaderboard_is_theirs(
    folder: Path, results: Results, tmp_path: Path
) -> None:
    csv = tmp_path / "board.csv"
    done = _call("leaderboard", folder, "--csv", csv)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # A table a data set and one over both, each headed by its title.
    assert [line.split(":")[0] for line in lines if line.startswith("loop tier")] == [
        "loop tier on digits-cnn-sgd",
        "loop tier on digits-mlp-sgd",
        "loop tier over 2 data sets",
    ]
    assert all(len(line) <= 120 for line in lines if not line.startswith("note:"))
    assert sum(line.startswith("ols-line") and "faster" in line for line in lines) == 3
    assert sum(line.startswith("lfd2-ols") and "slower" in line for line in lines) == 3
    assert any("16 of 16 calibration runs reach" in line for line in lines)
    null = next(s for s in loop_board(results.loops).on(SETS[0]) if s.label == "null")
    bounds = f"{null.ratio.value:.2f} [{null.ratio.lower:.2f}, {null.ratio.upper:.2f}]"
    assert any(f"{SETS[0]}: the null row" in line and bounds in line for line in lines)

    table = pd.read_csv(csv)
    assert table["dataset"].value_counts().to_dict() == {SETS[0]: 4, SETS[1]: 4, "pooled": 4}
    row = table[(table["dataset"] == SETS[0]) & (table["method"] == "lfd2-ols")].iloc[0]
    assert row["fit_step_equivalents"] == 2800  # 2,700 steps, and 50 s at half a second a step
    assert math.isinf(row["break_even_uses"])
    assert row["ratio_with_fit_1_uses"] > row["ratio_with_fit_100_uses"] > row["ratio"]
    assert 0 < row["smallest_saving"] < 0.5
    shown = next(line for line in lines if line.startswith("lfd2-ols"))
    assert f" {math.ceil(100 * row['smallest_saving'])} % " in shown
    assert row["harmful_jumps"] == pytest.approx(1 / 3)
    assert row["accepted_jumps"] == 1
    assert (row["optimizer"], row["learning_rate"]) == ("sgd", 0.15)
    ahead = table[(table["dataset"] == "pooled") & (table["method"] == "ols-line")].iloc[0]
    assert (ahead["solved_within_1"], ahead["solved_within_2"]) == (1.0, 1.0)
    assert any(line.startswith("performance profile over 2 data sets") for line in lines)
    failed = table[(table["dataset"] == "pooled") & (table["method"] == "damped-line")].iloc[0]
    assert failed["solved_within_2"] == 0
    assert (failed["failures"], failed["misses"], failed["runs"]) == (16, 16, 16)


def test_when_a_readout_and_target_are_named_then_the_title_says_them(folder: Path) -> None:
    options = ("--metric", "test_accuracy", "--readout", "average", "--target", "easy")
    done = _call("leaderboard", folder, "--tier", "loop", *options)
    assert done.exit_code == 0
    assert "test accuracy, easy target, average read-out" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tier", "loop", "--metric", "rel_sum"), "choices are test_accuracy, train_loss"),
        (("--readout", "mean"), "choices are average, raw"),
        (("--target", "soft"), "choices are easy, hard"),
        (("--baseline", "null"), "leave --baseline, --track and --split out"),
        (("--tier", "loop", "--split", "late"), "leave --baseline, --track and --split out"),
        (("--tier", "weights"), "runs of the loop tier alone"),
        (("--tier", "function", "--target", "easy"), "are for --tier loop"),
    ],
)
def test_when_an_option_does_not_fit_then_one_line_says_so(
    folder: Path, options: tuple[str, ...], said: str
) -> None:
    done = _call("leaderboard", folder, *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_when_a_csv_is_ranked_then_the_loop_tiers_options_are_refused(tmp_path: Path) -> None:
    csv = tmp_path / "errors.csv"
    csv.write_text("method,task,error\na,t,1\nb,t,2\n", encoding="utf-8")
    for options in (("--tier", "loop"), ("--readout", "raw")):
        done = _call("leaderboard", csv, *options)
        assert done.exit_code == 2
        assert "loop" in done.stderr


def test_when_there_are_no_loops_then_the_command_that_makes_some_is_named() -> None:
    with pytest.raises(InputError, match="weightcast run --suite loop-quick"):
        loop_board([])


def test_when_several_workers_shared_the_machine_then_the_board_says_so(results: Results) -> None:
    def notes(jobs: int) -> list[str]:
        return loop_board([row | {"jobs": jobs} for row in results.loops]).notes

    assert not [note for note in notes(1) if "side by side" in note]
    assert [note for note in notes(3) if "up to 3 workers side by side" in note]


def test_when_learning_rates_stand_far_apart_then_the_board_says_so(results: Results) -> None:
    said = [note for note in loop_board(results.loops).notes if "may be the grid's" in note]
    assert [note.partition(":")[0] for note in said] == sorted(SETS)
    assert "a factor of 1.5 apart" in said[0]
    fine = {0.1: 0.12, 0.15: 0.15, 0.225: 0.18, 0.3375: 0.22}
    rows = [row | {"learning_rate": fine[row["learning_rate"]]} for row in results.loops]
    assert not [note for note in loop_board(rows).notes if "may be the grid's" in note]


def test_when_an_optimizer_is_not_tuned_then_board_and_report_name_it(results: Results) -> None:
    """Adam's best rate is made its highest, 0.3375; SGD's own, as good, is inside its grid."""
    moved = {0.1: 0.1, 0.15: 0.3375, 0.225: 0.225, 0.3375: 0.15}
    adam = [
        row
        | {"optimizer": "adam", "key": f"{row['key']} adam"}
        | dict.fromkeys(("learning_rate", "pool_rate"), moved[row["learning_rate"]])
        for row in results.loops
    ]
    rows = [*results.loops, *adam]
    said = [note for note in loop_board(rows).notes if "may not be tuned" in note]
    assert [note.partition(":")[0] for note in said] == sorted(SETS)
    assert all("adam with the schedule constant" in note for note in said)
    assert html.escape(said[0]) in render_report(replace(results, loops=rows))
    assert not [note for note in loop_board(results.loops).notes if "may not be tuned" in note]


def test_when_runs_are_missing_then_the_board_says_which(results: Results) -> None:
    rows = [row for row in results.loops if row["seed_role"] == "calibration"]
    rows += [row for row in results.loops if row["dataset"] == SETS[0]]
    rows = [row for row in rows if row["learning_rate"] != 0.1 or row["method"] != "ols-line"]
    notes = loop_board(rows).notes
    assert any("ols-line: 3 of 4 configurations" in note for note in notes)
    nothing = loop_board([row for row in results.loops if row["method"] == "null"])
    assert nothing.standings == []
    assert any("no calibration runs" in note for note in nothing.notes)


@pytest.mark.parametrize(
    ("uses", "text"), [(0.0, "0"), (12.2, "13"), (math.inf, "never"), (math.nan, "—")]
)
def test_when_break_even_uses_are_written_then_they_are_whole(uses: float, text: str) -> None:
    assert uses_text(uses) == text


# --- export --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_when_loops_are_exported_then_each_run_is_a_row(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"rows.{ending}"
    done = _call("export", folder, file)
    assert done.exit_code == 0
    table = pd.read_csv(file) if ending == "csv" else pd.read_parquet(file)
    assert list(table.columns[: len(IDENTITY)]) == list(IDENTITY)
    assert len(table) == 2 * (4 * 12 + 4 * 4 * 8)
    assert set(table["tier"]) == {"loop"}
    assert set(table["seed_role"]) == {"calibration", "validation", "report"}
    here = table[(table["dataset"] == SETS[0]) & (table["run"] == 3000)]
    here = here[here["learning_rate"] == 0.15].set_index("method")
    plain, jumping = here.loc["no-forecast"], here.loc["ols-line"]
    # Losses fall exponentially, so the steps to one level are in the ratio of the speeds.
    ratio = plain["steps_to_hard_train_loss"] / jumping["steps_to_hard_train_loss"]
    assert ratio == pytest.approx(1.5, rel=0.02)
    assert plain["step_equivalents_to_hard_train_loss"] == plain["steps_to_hard_train_loss"]
    # A jump of a second costs two steps of half a second.
    paid = jumping["step_equivalents_to_hard_train_loss"] - jumping["steps_to_hard_train_loss"]
    assert paid == 2 * (jumping["steps_to_hard_train_loss"] // 90)
    assert jumping["average-100_steps_to_easy_test_accuracy"] > 0
    assert jumping["harmful_jumps"] == pytest.approx(1 / 3)
    assert jumping["accepted_jumps"] == 1
    assert (here.loc["lfd2-ols", "fit_steps"], here.loc["lfd2-ols", "fit_seconds"]) == (2700, 50.0)
    failed = here.loc["damped-line"]
    assert (failed["status"], failed["reason"]) == ("failed", ATTACK)
    assert math.isnan(failed["steps_to_easy_train_loss"])


# --- report --------------------------------------------------------------------------------


def test_when_a_folder_holds_loops_alone_then_the_report_is_about_them(page: str) -> None:
    for name in ("setting", "loop", "failures", "reproduce"):
        assert f'<section id="{name}">' in page
    for name in ("leaderboard", "function", "compute", "horizon", "examples", "reading"):
        assert f'id="{name}"' not in page
        assert f'href="#{name}"' not in page
    assert f"<b>{2 * (4 * 12 + 4 * 4 * 8)}</b> runs in the loop" in page
    assert "<b>64</b> failed runs in the loop" in page
    assert "never" in page


def test_when_runs_fail_in_the_loop_then_the_report_lists_them_escaped(
    page: str, results: Results
) -> None:
    groups = group_loop_failures(results.loops)
    assert [(g.label, g.task, g.tier, g.status, len(g.runs)) for g in groups] == [
        ("damped-line", f"{dataset}, sgd, constant", "loop", "failed", 32)
        for dataset in sorted(SETS)
    ]
    assert groups[0].runs[0] == "2000 at 0.1"
    assert [(s.count, s.status) for s in count_statuses([], results.loops)] == [("64", "failed")]
    assert "<script>alert" not in page
    assert html.escape(ATTACK) in page


def test_when_a_ratio_is_drawn_then_captions_hold_the_null_rows_interval(
    results: Results,
) -> None:
    view = View(results)
    section = loop_section(LoopView(results.loops, view.looks))
    assert [part.title for part in section.parts] == ["all data sets", *sorted(SETS)]
    board = loop_board(results.loops)
    null = next(s for s in board.on(SETS[0]) if s.label == "null")
    part = next(part for part in section.parts if part.title == SETS[0])
    assert interval(null.ratio) in part.pictures[0].caption
    assert len(part.pictures) == 2
    whole = [picture.heading for picture in section.parts[0].pictures]
    assert sum(heading.startswith("performance profile") for heading in whole) == 2
    rows = {(row[0].text, row[0].note): [cell.text for cell in row] for row in part.table.rows}
    assert rows["ols-line", "raw"][2] == "faster"
    assert rows["lfd2-ols", "average"][2] == "slower"
    # The curves' captions count what the runs hold.
    pictures = dict(section.curves)[SETS[0]]
    assert {p.heading for p in pictures} == {"ols-line", "lfd2-ols"}
    assert "9 jumps, 3 of them to a higher loss" in pictures[0].caption
    uses = {row[0].text: row[-1].text for row in dict(section.break_even)[SETS[0]].rows}
    assert uses["ols-line"] == "0"
    assert uses["lfd2-ols"] == "never"
    assert {row[4].text for row in section.targets.rows} == {"16 of 16"}


def test_when_a_forecaster_is_ahead_then_the_first_sentence_says_by_how_much(
    results: Results, page: str
) -> None:
    best = loop_board(results.loops).pooled[0]
    said = takeaway(LoopView(results.loops, View(results).looks))
    assert best.label == "ols-line"
    assert f"ols-line takes {fixed(best.ratio.value)} {interval(best.ratio)}" in said
    average = loop_board(results.loops, readout="average").pooled[0]
    by_average = f"{fixed(average.ratio.value)} {interval(average.ratio)}"
    assert f"by raw weights, and {by_average} by their moving average (faster)" in said
    assert said in page
    slower = [row for row in results.loops if row["method"] != "ols-line"]
    said = takeaway(LoopView(slower, View(replace(results, loops=slower)).looks))
    assert "no forecaster is shown to be faster" in said
    assert re.search(r"; a saving of \d+ % or more would have been seen in 80 of 100 cases", said)
    alone = [row for row in results.loops if row["method"] != "null"]
    said = takeaway(LoopView(alone, View(replace(results, loops=alone)).looks))
    assert "no forecaster has a verdict over 2 data sets; the lowest ratio is ols-line's" in said


def test_when_jumps_cost_seconds_then_curves_are_moved_to_the_right(results: Results) -> None:
    loop = LoopView(results.loops, View(results).looks)
    curves = loop.curves(SETS[0])
    assert curves["no-forecast"].at[-1] == BUDGET
    jumping = curves["ols-line"]
    assert jumping.at[-1] == BUDGET + 9 * 2
    # Half of the first interval is behind, no jump; at step 90 one.
    assert jumping.at[1:3].tolist() == [45.0, 92.0]
    assert (jumping.jumps[1].at, jumping.jumps[1].landed) == (182.0, 184.0)
    assert jumping.losses.shape == (5, len(STEPS))


@pytest.mark.parametrize(
    "kept",
    [
        lambda row: row["seed_role"] == "calibration",
        lambda row: row["method"] in ("no-forecast", "ols-line"),
        lambda row: row["dataset"] == SETS[0] and row["method"] != "no-forecast",
        lambda row: row["status"] != "ok",
        lambda row: row["dataset"] == SETS[0] or row["seed_role"] != "report",
    ],
    ids=["calibration", "no-null", "no-plain", "failed", "half-done"],
)
def test_when_little_of_the_loop_is_there_then_the_report_still_renders(
    results: Results, kept: Callable[[Row], bool]
) -> None:
    loops = [row for row in results.loops if kept(row)]
    page = render_report(replace(results, loops=loops))
    assert '<section id="loop">' in page
    shown = re.sub(r"<[^>]*>", " ", page.partition("<main>")[2].partition("</main>")[0])
    assert not re.search(r"\bnan\b", shown, flags=re.IGNORECASE)


def test_when_losses_are_not_finite_then_the_curves_still_draw(results: Results) -> None:
    loops = []
    for row in results.loops:
        broken = [None if step > 450 else 1.0 for step in STEPS.tolist()]
        wild = row["seed"] == 3000 and row["status"] == "ok"
        measured = row["measured"] | {"train_loss": broken} if wild else row["measured"]
        loops.append(row | {"measured": measured})
    section = loop_section(LoopView(loops, View(replace(results, loops=loops)).looks))
    assert all(pictures for _, pictures in section.curves)


def test_when_cells_and_loops_are_in_a_folder_then_both_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    done = _call(
        "run", "--suite", "quick", "--datasets", "linreg-sgd", "--methods",
        "last-value,ols-line,last-two-line", "--no-tuning", "--jobs", "2", "--out", folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    before = load_results(folder).cells
    columns = list(before.drop(columns="label").columns)
    _store(folder, _all(SETS[0]), create=False)
    results = load_results(folder)
    page = render_report(results)
    for name in ("setting", "leaderboard", "function", "loop", "compute", "failures", "reading"):
        assert f'<section id="{name}">' in page
    assert "<b>32</b> failed runs in the loop" in page
    assert "<b>0</b> failed cells" in page
    # Weights are the default where cells are; the columns that only loops have come last.
    assert "weights tier" in _call("leaderboard", folder).stdout
    assert "loop tier on" in _call("leaderboard", folder, "--tier", "loop").stdout
    assert _call("export", folder, tmp_path / "rows.csv").exit_code == 0
    table = pd.read_csv(tmp_path / "rows.csv")
    assert list(table.columns[: len(columns)]) == columns
    assert table["tier"].value_counts()["weights"] == (before["tier"] == "weights").sum()
    assert table["tier"].value_counts()["loop"] == len(results.loops)


# --- weights and function together ---------------------------------------------------------


def _view(results: Results, gains: dict[str, tuple[float, float]]) -> View:
    """Methods with an error in weights and a train loss each; the last value has 1 and 0.5."""
    rows = []
    for label, (error, loss) in ({"last-value": (1.0, 0.5)} | gains).items():
        for run in range(3):
            shared = {
                "suite": "s", "dataset": "d", "trained_on": "d", "track": "main", "split": "seeds",
                "rotation": 0, "context": 10, "horizon_set": "common", "label": label,
                "method": label, "run": run, "status": "ok",
            }  # fmt: skip
            nothing = {"rel_sum": math.nan, "rel_sum_sample": math.nan, "repeat": 0}
            weights = {"tier": "weights", "rel_sum": error, "rel_last": error}
            rows.append(shared | nothing | weights)
            rows.append(shared | nothing | {"tier": "function", "train_loss_last": loss})
    return View(replace(results, cells=pd.DataFrame(rows), loops=[]))


def test_when_orders_agree_then_the_correlation_is_one_and_counts_are_said(
    results: Results,
) -> None:
    task = Task("d", 10, "d")
    methods = {f"m{i}": (0.9 - 0.1 * i, 0.45 - 0.05 * i) for i in range(5)}
    found = agreement(_view(results, methods), [task])
    title, horizon, every, p, beating, _ = found.table.rows[0]
    assert (title.text, horizon.text) == ("d", "last")
    assert (every.text, beating.text) == ("+1.00", "+1.00")
    assert every.note == "[+1.00, +1.00], 5 methods"
    assert float(p.text) < 0.05
    assert [picture.heading for picture in found.pictures] == [
        "All methods", "Methods that beat the last value in weights",
        "Each method, at the last horizon",
    ]  # fmt: skip
    assert "5 points" in found.pictures[-1].caption
    assert found.takeaway == (
        "Spearman's rank correlation over all methods is at the last horizon +1.00 (1 data set, "
        "clearly not 0 on 1)."
    )


def test_when_few_methods_beat_the_last_value_then_that_is_said(results: Results) -> None:
    task = Task("d", 10, "d")
    methods = {"a": (0.9, 0.6), "b": (0.8, 0.7), "c": (0.7, 0.8), "worse": (2.0, 0.1)}
    found = agreement(_view(results, methods), [task])
    _, _, every, _, beating, _ = found.table.rows[0]
    assert (every.text, every.note) == ("—", "4 methods, too few")
    assert (beating.text, beating.note) == ("—", "3 methods, too few")
    assert found.takeaway == "There are too few methods for a rank correlation."


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_when_axe_looks_at_the_loop_tier_then_it_finds_nothing_wrong(
    page: str, tmp_path: Path, accessibility: Callable[..., list[str]], scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    assert accessibility(path, scheme, width) == []
