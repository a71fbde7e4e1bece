"""The command line as people use it: a real process, its exit status and its lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from weightcast.datasets import Metadata, get_dataset
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.trajectory import Trajectory

TEN_LINES = '''
from weightcast.methods import CoordinateForecaster, register

@register("my-method")
class MyMethod(CoordinateForecaster):
    """Repeat the last difference."""
    def predict_block(self, context, task):        # (c, n+1) float32 -> (c, m)
        step = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + step * task.horizons   # (m,) snapshots after the origin
'''


def weightcast(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from weightcast.bench.cli import main; main()",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


def _refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for text in says:
        assert text in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_when_help_or_list_is_asked_for_then_no_heavy_library_loads() -> None:
    code = (
        "import sys\n"
        "from weightcast.bench.cli.app import app\n"
        "try: app(sys.argv[1:], prog_name='weightcast')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'sktime', 'statsmodels', 'sklearn', 'scipy', 'matplotlib', 'pandas',"
        " 'pyarrow', 'transformers'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    for arguments in (["--help"], ["list", "methods"], ["list", "datasets"], ["list", "suites"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip().endswith("LOADED []"), done.stdout[-200:] + done.stderr


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("methods", {"lfd2", "arima", "line-search"}),
        ("datasets", {"linreg-sgd", "digits-mlp-sgd", "digits-mlp-adam"}),
        ("suites", {"quick", "full"}),
    ],
)
def test_when_a_list_is_asked_for_as_json_then_names_are_in_it(
    what: str, expected: set[str]
) -> None:
    done = weightcast("list", what, "--json")
    assert done.returncode == 0
    assert expected <= {row["name"] for row in json.loads(done.stdout)}


def test_when_a_ten_line_plugin_is_named_then_it_runs_and_ranks(tmp_path: Path) -> None:
    plugin, out = tmp_path / "mine.py", tmp_path / "out"
    plugin.write_text(TEN_LINES, encoding="utf-8")
    done = weightcast(
        "run", "--suite", "quick", "--out", out, "--plugin", plugin, "--datasets", "digits-mlp-sgd",
        "--methods", "last-value,last-two-line,my-method",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "no failed cells"
    csv = tmp_path / "board.csv"
    board = weightcast("leaderboard", out, "--csv", csv)
    assert board.returncode == 0, board.stderr
    lines = csv.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(
        "method,skill,skill_lower,skill_upper,win_rate,win_rate_lower,win_rate_upper,mean_rank,"
        "failures,skill_h5,skill_h5_lower,skill_h5_upper,"
    )
    skills = {line.split(",")[0]: line.split(",")[1] for line in lines[1:]}
    assert skills["my-method"] == skills["last-two-line"]
    assert float(skills["last-value"]) == 0.0
    exported = weightcast("export", out, tmp_path / "cells.csv")
    assert exported.stdout.strip() == f"72 rows in {tmp_path / 'cells.csv'}"


def test_when_a_plugin_is_named_alone_then_it_joins_the_suites_methods(tmp_path: Path) -> None:
    plugin, suite, out = tmp_path / "mine.py", tmp_path / "s.toml", tmp_path / "out"
    plugin.write_text(TEN_LINES, encoding="utf-8")
    suite.write_text('name = "s"\ndatasets = ["linreg-sgd"]\nmethods = ["last-value"]\n', "utf-8")
    done = weightcast("run", "--suite", suite, "--out", out, "--plugin", plugin)
    assert done.returncode == 0, done.stderr
    assert "400 to run" in done.stderr
    assert "my-method" in weightcast("leaderboard", out).stdout


def test_when_names_are_misspelt_then_close_matches_are_named_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    run = ("run", "--out", out, "--suite")
    _refused(weightcast(*run, "quik"), "unknown suite 'quik': did you mean quick")
    _refused(weightcast(*run, "quick", "--methods", "lfd3"), "unknown method 'lfd3'", "lfd2")
    _refused(
        weightcast(*run, "quick", "--datasets", "digits-mlp-sdg"),
        "unknown data set 'digits-mlp-sdg': did you mean digits-mlp-sgd",
    )
    _refused(weightcast("record", "digits-mlp-agd"), "did you mean digits-mlp-")
    _refused(weightcast("record", "linreg-sgd"), "nothing to record")
    _refused(weightcast("record", "digits-mlp-sgd", "--seeds", "3-1"), "not of the form 0-11")
    assert not out.exists()


def test_when_a_suite_file_is_wrong_then_the_place_is_named(tmp_path: Path) -> None:
    suite = tmp_path / "s.toml"
    run = ("run", "--suite", suite, "--out", tmp_path / "out")
    _refused(weightcast(*run), "cannot be read")
    for text, says in [
        ('name = "s"\ndatasets = ["linreg-sgd"]', "methods: is missing; it has to be a list"),
        ('name = "s"\ndatasets = ["linreg-sgd"]\nmethods = ["lfd2"]\nrotation = 4', "rotation"),
        ('name = "s"\ndatasets = ["linreg-sgd"]\nmethods = ["lfd2"]\nrotations = 2', "rotations"),
        (
            'name = "s"\ndatasets = ["linreg-sgd"]\nmethods = ["lfd2"]\ncontexts = [100]',
            "context 100",
        ),
        ("name =", "cannot be read"),
        (
            'name = "s"\ndatasets = ["linreg-sgd"]\n'
            '[[methods]]\nname = "arima"\nparams = {ordr = 1}',
            "unknown parameter of arima 'ordr': did you mean order",
        ),
    ]:
        suite.write_text(text, encoding="utf-8")
        _refused(weightcast(*run), says)
    assert not (tmp_path / "out").exists()


def test_when_a_trajectory_is_truncated_foreign_or_not_finite_then_info_says_so(
    tmp_path: Path,
) -> None:
    good = get_dataset("digits-mlp-sgd").run(0)
    path = tmp_path / "0.safetensors"
    write_stacked(good, path)
    path.write_bytes(path.read_bytes()[:-100])
    _refused(weightcast("info", path), "truncated", path.name)
    path.write_text("x" * 300, encoding="utf-8")
    _refused(weightcast("info", path), "is not a Weightcast trajectory")
    _refused(weightcast("info", tmp_path / "none"), "there is no trajectory")
    _refused(weightcast("info", "digits-mlp-sdg"), "did you mean digits-mlp-sgd")
    values = np.ones((3, 2), np.float32)
    values[1, 1] = np.nan
    write_stacked(Trajectory.from_arrays({"w": values}, [0, 5, 9], Metadata("toy", 0)), path)
    _refused(weightcast("info", path), "tensor w has NaN or infinity at step 5")


def test_when_info_is_asked_for_as_json_then_its_keys_are_there(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    run = get_dataset("digits-mlp-adam").run(0)
    write_stacked(run, path)
    found = json.loads(weightcast("info", path, "--json").stdout)
    assert found["snapshots"] == 61
    assert found["coordinates"] == 2410
    assert found["steps"][-1] == 2700
    assert found["sha256"] == run.content_hash()
    assert [t["name"] for t in found["tensors"]] == [t.name for t in run.tensors]
    assert all(gate["passed"] for gate in found["gates"])


def test_when_a_data_folder_holds_a_run_with_nan_then_run_refuses_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "digits-mlp-sgd"
    source = get_dataset("digits-mlp-sgd").run(4)
    arrays = {t.name: source.read(t).reshape(61, *t.shape) for t in source.tensors}
    arrays["3.bias"][7, 2] = np.inf
    spoilt = Trajectory.from_arrays(arrays, source.steps.tolist(), source.meta, source.tensors)
    write_stacked(spoilt, folder / "4.safetensors")
    out = tmp_path / "out"
    done = weightcast(
        "run", "--suite", "quick", "--datasets", "digits-mlp-sgd", "--out", out,
        "--data", tmp_path / "data",
    )  # fmt: skip
    _refused(done, "digits-mlp-sgd/4: tensor 3.bias has NaN or infinity at step 315")
    assert not out.exists()


def test_when_a_data_folder_holds_another_run_under_the_name_then_run_refuses_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "digits-mlp-sgd"
    write_stacked(get_dataset("digits-mlp-sgd").run(4), folder / "5.safetensors")
    done = weightcast(
        "run", "--suite", "quick", "--datasets", "digits-mlp-sgd", "--out", tmp_path / "out",
        "--data", tmp_path,
    )  # fmt: skip
    _refused(done, "holds the run digits-mlp-sgd/4, not digits-mlp-sgd/5")


def test_when_the_result_folder_is_foreign_or_unwritable_then_it_is_left_alone(
    tmp_path: Path,
) -> None:
    run = (
        "run",
        "--suite",
        "quick",
        "--methods",
        "last-value",
        "--datasets",
        "linreg-sgd",
        "--out",
    )
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x", encoding="utf-8")
    _refused(weightcast(*run, foreign), "holds other files and no results.sqlite")
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]
    _refused(weightcast(*run, foreign / "thesis.tex"), "is a file")
    _refused(weightcast(*run, "/proc/nowhere"), "cannot be written")
    (foreign / "thesis.tex").rename(foreign / "results.sqlite")
    _refused(weightcast(*run, foreign), "is not a Weightcast store")
    assert (foreign / "results.sqlite").read_text(encoding="utf-8") == "x"
    _refused(weightcast("leaderboard", tmp_path / "absent"), "is not a result folder")
    _refused(weightcast("report", tmp_path), "is not a result folder")
    _refused(weightcast("export", tmp_path, tmp_path / "x.csv"), "is not a result folder")


def test_when_metric_tier_or_baseline_is_unknown_then_choices_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (
        weightcast(
            "run", "--suite", "quick", "--methods", "last-value", "--datasets", "linreg-sgd",
            "--out", out,
        ).returncode
        == 0
    )  # fmt: skip
    _refused(weightcast("leaderboard", out, "--metric", "rel_summ"), "did you mean rel_sum")
    _refused(weightcast("leaderboard", out, "--tier", "functon"), "unknown tier 'functon'")
    _refused(weightcast("leaderboard", out, "--baseline", "last"), "did you mean last-value")
    done = weightcast("run", "--suite", "full", "--out", out, "--datasets", "linreg-sgd")
    _refused(done, "holds results of the suite 'quick'")


def test_when_a_plugin_is_missing_broken_or_empty_then_one_line_says_so(tmp_path: Path) -> None:
    plugin = tmp_path / "p.py"
    ask = ("list", "methods", "--plugin", plugin)
    _refused(weightcast(*ask), "there is no plugin file")
    plugin.write_text("1/0", encoding="utf-8")
    _refused(weightcast(*ask), "fails: ZeroDivisionError")
    plugin.write_text("x = 1", encoding="utf-8")
    _refused(weightcast(*ask), "registers no method")
    plugin.write_text(TEN_LINES.replace("my-method", "lfd2"), encoding="utf-8")
    _refused(weightcast(*ask), "a method named 'lfd2' is registered already")


def test_when_arguments_are_wrong_then_exit_status_is_two() -> None:
    for arguments in (["run"], ["no-such-verb"], ["list", "colours"], ["info"]):
        done = weightcast(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_when_a_distribution_registers_a_method_by_entry_point_then_it_is_listed(
    tmp_path: Path,
) -> None:
    # A distribution as pip would install it: a module and its metadata on the path.
    (tmp_path / "their_plugin.py").write_text(TEN_LINES, encoding="utf-8")
    info = tmp_path / "their_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-plugin\nVersion: 1.0\n", "utf-8"
    )
    (info / "entry_points.txt").write_text("[weightcast.methods]\nmine = their_plugin\n", "utf-8")
    done = weightcast("list", "methods", "--json", PYTHONPATH=str(tmp_path))
    assert "my-method" in {row["name"] for row in json.loads(done.stdout)}
    shutil.rmtree(info)
    done = weightcast("list", "methods", "--json", PYTHONPATH=str(tmp_path))
    assert "my-method" not in {row["name"] for row in json.loads(done.stdout)}


DATA_SET = """
from weightcast.datasets import RecordedDataSet, Recipe, register_dataset

NAME = "tiny-mlp"
RECIPE = Recipe(
    NAME, "mlp", "digits", "sgd", 0.1, 32, steps=60, snapshot_every=4,
    network_options={"sizes": [64, 4, 10]},
)
register_dataset(
    RecordedDataSet(
        NAME, tuple(range(6)), "a tiny network", "digits", "BSD-3-Clause", recipe=RECIPE,
        bytes_per_run=30_000, seconds_per_run=0.3,
    )
)
"""


def test_when_runs_are_missing_then_they_are_named_left_out_or_recorded(tmp_path: Path) -> None:
    plugin, data, out = tmp_path / "tiny.py", tmp_path / "data", tmp_path / "out"
    plugin.write_text(DATA_SET, encoding="utf-8")
    data.mkdir()
    run = (
        "run", "--suite", "quick", "--methods", "last-value,lfd2-ols", "--out", out,
        "--data", data, "--plugin", plugin, "--datasets",
    )  # fmt: skip
    _refused(
        weightcast(*run, "tiny-mlp"),
        "6 of 6 runs of tiny-mlp are not here",
        "weightcast record tiny-mlp --seeds 0-5",
        "about 2 s",
    )
    _refused(weightcast(*run, "tiny-mlp", "--record", "--skip-missing"), "exclude each other")
    done = weightcast(*run, "tiny-mlp,digits-mlp-sgd", "--skip-missing")
    assert done.returncode == 0, done.stderr
    assert "left out: 6 of 6 runs of tiny-mlp" in done.stderr
    done = weightcast(*run, "tiny-mlp,digits-mlp-sgd", "--record")
    assert done.returncode == 0, done.stderr
    assert "24 of 36 cells are here, 12 to run" in done.stderr
    assert sorted(path.name for path in (data / "tiny-mlp").iterdir()) == [
        f"{seed}.safetensors" for seed in range(6)
    ]
    assert "tiny-mlp" in weightcast("list", "datasets", "--plugin", plugin).stdout


def test_when_info_is_asked_for_a_data_set_then_its_gates_are_there() -> None:
    found = json.loads(weightcast("info", "digits-mlp-sgd", "--json").stdout)
    assert (found["runs"], found["coordinates"], found["snapshots"]) == (12, 2410, 61)
    assert [gate["name"] for gate in found["gates"]] == [
        "enough-runs", "movement", "no-spikes", "no-shared-start",
    ]  # fmt: skip
    assert "gate no-shared-start: passed" in weightcast("info", "digits-mlp-sgd").stdout
    _refused(weightcast("info", "digits-cnn-sgd", WEIGHTCAST_DATA="/nowhere"), "weightcast record")
