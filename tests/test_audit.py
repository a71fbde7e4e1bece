"""Published results beside fresh runs: who is found out, and who is not."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from weightcast.bench.cli.app import app
from weightcast.bench.results.audit import (
    Audit,
    AuditRow,
    audit_notes,
    audit_rows,
    read_audit,
    write_audit,
)
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError, get_dataset
from weightcast.methods import registry

MAIN = "from weightcast.bench.cli import main; main()"

SUITE = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "damped-line"]
contexts = [10]
rotations = 4
tiers = ["weights"]
"""

#: Two ways to know a data set's runs: one is told by the package, one was written down beforehand.
KNOWERS = '''
import numpy as np
from weightcast.datasets import get_dataset
from weightcast.methods import CoordinateForecaster, register

_runs = []


class Knower(CoordinateForecaster):
    def predict_block(self, context, task):
        n, m = task.context, len(task.horizons)
        _runs.extend(self.known() if not _runs else ())
        for run in _runs:
            (info,) = [info for info in run.tensors if info.name == task.tensor.name]
            weights = run.read(info)[:, task.rows]
            if np.array_equal(weights[: n + 1], context.T):
                return weights[n + 1 : n + 1 + m].T.copy()
        return np.repeat(context[:, -1:], m, axis=1)


@register("asks-the-package")
class AsksThePackage(Knower):
    """Finds the run in the registry."""

    def known(self):
        dataset = get_dataset("digits-mlp-sgd")
        return [dataset.run(seed) for seed in dataset.seeds]
'''


def _results(errors: dict[str, Any], folder: Path, first: int = 0) -> Results:
    """A folder whose methods have these errors over the last value's; NaN is a failed cell."""
    told = {"last-value": np.ones(len(next(iter(errors.values()))))} | errors
    rows = [
        {
            "label": label, "method": label, "dataset": "d", "trained_on": "d", "track": "main",
            "split": "seeds", "tier": "weights", "context": 10, "run": first + run, "repeat": 0,
            "status": "failed" if np.isnan(error) else "ok", "rel_sum": error,
        }
        for label, values in told.items()
        for run, error in enumerate(values)
    ]  # fmt: skip
    empty = pd.DataFrame()
    return Results(folder, pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


def _audit(old: dict[str, Any], new: dict[str, Any]) -> dict[str, AuditRow]:
    published, fresh = _results(old, Path("a")), _results(new, Path("b"), first=1000)
    return {row.method: row for row in audit_rows(published, fresh)}


def _draws(random: np.random.Generator, level: float, count: int) -> np.ndarray:
    return level * np.exp(random.normal(0, 0.2, count))


def test_when_a_method_knew_its_runs_then_it_is_not_confirmed_and_others_are() -> None:
    random = np.random.default_rng(0)
    old = {"knew": np.full(12, 1e-3), "honest": _draws(random, 0.6, 12)}
    new = {"knew": np.ones(12), "honest": _draws(random, 0.6, 12)}
    found = _audit(old, new)
    assert {name: row.verdict for name, row in found.items()} == {
        "knew": "not confirmed",
        "honest": "confirmed",
    }
    assert found["knew"].published[0] == pytest.approx(1e-3)
    assert found["knew"].fresh[0] == pytest.approx(1.0)
    # The test is SciPy's, one of two comparisons adjusted.
    p = stats.ttest_ind(
        np.log(new["honest"]), np.log(old["honest"]), equal_var=False, alternative="greater"
    ).pvalue
    assert found["honest"].p == pytest.approx(p)


def test_when_methods_are_honest_then_few_audits_flag_any() -> None:
    random, alarms = np.random.default_rng(1), 0
    for _ in range(80):
        levels = {f"m{index}": level for index, level in enumerate((0.3, 0.6, 0.9, 1.2))}
        old, new = (
            {name: _draws(random, level, count) for name, level in levels.items()}
            for count in (12, 12)
        )
        alarms += any(row.verdict == "not confirmed" for row in _audit(old, new).values())
    assert alarms <= 9  # 5 % of 80, and chance


def test_when_a_method_is_only_better_on_fresh_runs_then_it_is_confirmed() -> None:
    random = np.random.default_rng(2)
    found = _audit({"x": _draws(random, 0.8, 12)}, {"x": _draws(random, 0.3, 12)})
    assert found["x"].verdict == "confirmed"


def test_when_a_method_fails_on_fresh_runs_then_it_does_not_gain_by_it() -> None:
    random = np.random.default_rng(3)
    old, failing = _draws(random, 0.3, 12), _draws(random, 0.3, 12)
    failing[:8] = np.nan
    found = _audit({"x": old}, {"x": failing})["x"]
    assert found.failures == 8
    assert found.verdict == "not confirmed"


def test_when_a_method_never_had_a_result_then_there_is_nothing_to_confirm() -> None:
    nothing = np.full(12, np.nan)
    found = _audit({"x": nothing, "y": np.full(12, 0.5)}, {"x": nothing, "y": np.full(12, 0.5)})
    assert list(found) == ["y"]
    with pytest.raises(InputError, match="no method in common"):
        _audit({"x": nothing}, {"x": nothing})


def test_when_there_are_too_few_runs_then_no_verdict_is_made_up() -> None:
    found = _audit({"x": np.full(2, 0.1)}, {"x": np.full(2, 1.0)})["x"]
    assert (found.verdict, found.p) == ("too few runs", None)


def test_when_results_change_after_an_audit_then_its_verdicts_are_of_others(
    tmp_path: Path,
) -> None:
    old, new = {"x": np.full(12, 0.1), "y": np.full(12, 0.5)}, {"x": np.ones(12), "y": np.ones(12)}
    published = _results(old, tmp_path)
    rows = audit_rows(published, _results(new, tmp_path, first=1000))
    (tmp_path / "audit").mkdir()
    write_audit(tmp_path, Audit(made="2026-01-01 00:00 UTC", seeds={"d": [7]}, rows=rows))
    notes = audit_notes(published, "weights")
    assert [note.split()[0] for note in notes] == ["x", "y"]
    assert "0.100 of last-value's error as published, 1.000 on 12 fresh runs" in notes[0]
    assert audit_notes(published, "function") == []
    other = _results({"x": np.full(12, 0.2), "y": np.full(12, 0.5)}, tmp_path)
    first, second = audit_notes(other, "weights")
    assert first.startswith("y is not confirmed")
    assert second.startswith("1 verdicts of the audit of 2026-01-01 00:00 UTC are of other results")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"made": "", "seeds": {}}', '{"made": 1, "seeds": {}, "rows": []}',
     "[" * 10_000, '{"made": "", "seeds": {"d": [1.5]}, "rows": []}', "\x00\xff"],
)  # fmt: skip
def test_when_an_audits_file_is_damaged_then_it_is_refused_in_one_line(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as caught:
        read_audit(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run a small suite with a method that knows its runs; give the folder and the plugin."""
    place = tmp_path_factory.mktemp("audited")
    plugin, suite, out = place / "knowers.py", place / "suite.toml", place / "out"
    plugin.write_text(KNOWERS, encoding="utf-8")
    suite.write_text(SUITE, encoding="utf-8")
    registry.all_methods()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_METHODS", dict(registry._METHODS))
        done = _verb("run", "--suite", suite, "--plugin", plugin, "--out", out)
    assert done.exit_code == 0, done.output
    return out, plugin


@pytest.fixture
def folder(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Give a copy of that folder, and of the plugin."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    shutil.copytree(made[0], tmp_path / "out")
    return tmp_path / "out", Path(shutil.copy(made[1], tmp_path))


@pytest.fixture
def honest_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same fresh seeds each time: one honest audit in twenty raises an alarm."""
    monkeypatch.setattr("secrets.randbelow", random.Random(0).randrange)


def _verb(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.usefixtures("honest_draws")
def test_when_a_folder_is_audited_then_who_knew_its_runs_is_found_out(
    folder: tuple[Path, Path],
) -> None:
    out, plugin = folder
    assert rank_results(load_results(out)).ranking.standings[0].method == "asks-the-package"
    asked = ("audit", out, "--plugin", plugin, "--fresh", 4)
    done = _verb(*asked, "--strict")
    assert done.exit_code == 1, done.output
    assert re.search(r"^not confirmed +weights +asks-the-package", done.stdout, re.M)
    assert re.search(r"^confirmed +weights +damped-line", done.stdout, re.M)
    said = _verb("leaderboard", out).stdout
    assert "note: asks-the-package is not confirmed on digits-mlp-sgd, context 10: 0.000" in said
    # What was drawn is no run of the data set, and another audit draws others.
    first = read_audit(out)
    assert first is not None
    assert not set(first.seeds["digits-mlp-sgd"]) & set(get_dataset("digits-mlp-sgd").seeds)
    done = _verb(*asked, "--methods", "damped-line", "--json")
    assert done.exit_code == 0, done.output
    assert [row["method"] for row in json.loads(done.stdout)] == ["damped-line"]
    second = read_audit(out)
    assert second is not None
    assert not set(first.seeds["digits-mlp-sgd"]) & set(second.seeds["digits-mlp-sgd"])


def test_when_an_audit_is_killed_then_the_next_one_goes_on_with_its_runs(
    folder: tuple[Path, Path], wait_for: Callable[..., bool]
) -> None:
    out, plugin = folder
    asked = ["audit", str(out), "--plugin", str(plugin), "--fresh", "4", "--jobs", "1"]
    recorded = out / "audit" / "data" / "digits-mlp-sgd"
    fresh = lambda: [p for p in recorded.glob("*.safetensors") if not p.is_symlink()]  # noqa: E731
    with subprocess.Popen([sys.executable, "-c", MAIN, *asked], stderr=subprocess.PIPE) as process:
        assert wait_for(lambda: recorded.exists() and len(fresh()) >= 1, 120.0)
        process.send_signal(signal.SIGKILL)
    assert read_audit(out) is None
    assert not any("confirmed" in note for note in rank_results(load_results(out)).notes)
    drawn = json.loads((out / "audit" / "seeds.json").read_text())
    kept = {path.name: path.stat().st_mtime_ns for path in fresh()}
    time.sleep(0.01)
    done = _verb(*asked)
    assert done.exit_code == 0, done.output
    audit = read_audit(out)
    assert audit is not None
    assert audit.seeds == drawn
    for name, time_of in kept.items():
        assert (recorded / name).stat().st_mtime_ns == time_of


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fresh", 3), "--fresh is 3; it must be 4 to 1000"),
        (("--methods", "damped-lime"), "damped-line"),
        (("--datasets", "linreg-sgd"), "linreg-sgd"),
        (("--jobs", 0), "--jobs"),
    ],
)
def test_when_what_is_asked_cannot_be_audited_then_it_is_said_and_nothing_is_left(
    words: tuple[object, ...], says: str, folder: tuple[Path, Path]
) -> None:
    out, plugin = folder
    done = _verb("audit", out, "--plugin", plugin, *words)
    assert done.exit_code == 2
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (out / "audit").exists()


def test_when_results_are_of_other_code_then_they_are_not_audited(
    folder: tuple[Path, Path],
) -> None:
    out, plugin = folder
    plugin.write_text(KNOWERS + "\n# changed\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "audit", str(out), "--plugin", str(plugin), "--fresh", "4",
         "--methods", "asks-the-package"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no finished results of today's code and data" in done.stderr
