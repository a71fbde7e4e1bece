"""Every check of the contract can fail, and `weightcast check` says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from weightcast.bench.cli.app import app
from weightcast.methods import load_plugin, registry
from weightcast.methods.contract import CHECKS, check_method

HEAD = """
import gc, os, sys
import numpy as np
from weightcast.datasets import Trajectory, open_trajectory
from weightcast.datasets.registry import all_datasets
from weightcast.methods import CoordinateForecaster, NetworkForecaster, register

def stay(context, task):
    return np.repeat(context[:, -1:], len(task.horizons), axis=1)

"""

GOOD = '''
@register("my-method")
class MyMethod(CoordinateForecaster):
    """Repeat the last difference."""
    def predict_block(self, context, task):        # (c, n+1) float32 -> (c, m)
        step = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + step * task.horizons   # (m,) snapshots after the origin
'''

#: A check, a method that breaks it, and a part of what is said.
BROKEN = [
    ("tags", '_tags = {"needs": ("test-loss",)}', "tag needs"),
    ("tags", '_tags = {"needs": ("truth",)}', "without truth"),
    ("tags", '_tags = {"sampled": "no"}', "True or False"),
    ("tags", '_tags = {"native_context": -5}', "positive numbers"),
    ("tags", 'param_grid = {"other": (1,)}', "param_grid names other"),
    ("tags", "__doc__ = None", "docstring"),
    (
        "parameters",
        """
def __init__(self, k=1):
    self.k = k + 1
    super().__init__()
""",
        "modifies parameter k",
    ),
    (
        "parameters",
        """
param_grid = {"sizes": ([1, 2],)}
def __init__(self, sizes=(1,)):
    self.sizes = tuple(sizes)
    super().__init__()
""",
        "store sizes unchanged",
    ),
    (
        "parameters",
        """
def __init__(self, k=1):
    self.k = k
    super().__init__()
def fit(self, train, validation, task):
    self.k = 7
    return self
""",
        "fit changes the parameters",
    ),
    (
        "provenance",
        """
_tags = {"provenance": "zero-shot"}
def fit(self, train, validation, task):
    for context, target in task.pairs(validation[0]):
        pass
    return self
""",
        'provenance says "zero-shot"',
    ),
    ("shapes", "def predict_block(self, context, task): return stay(context, task)[:1]", "shape"),
    (
        "dtypes",
        "def predict_block(self, context, task): return stay(context, task).astype(int)",
        "int64",
    ),
    (
        "finite",
        """
def predict_block(self, context, task):
    with np.errstate(all="ignore"):
        rate = context[:, -1:] / context[:, -2:-1]
        return np.clip(rate, -1, 1) * stay(context, task)
""",
        "not finite",
    ),
    (
        "determinism",
        """
def fit(self, train, validation, task):
    self.draw_ = np.random.standard_normal()
    return self
def predict_block(self, context, task): return stay(context, task) + self.draw_
""",
        "two fits",
    ),
    (
        "determinism",
        """
def fit(self, train, validation, task):
    self.draw_ = np.random.default_rng(task.seed).standard_normal()
    return self
def predict_block(self, context, task): return stay(context, task) + self.draw_
""",
        "the tag random is false",
    ),
    (
        "determinism",
        """
calls = 0
def predict_block(self, context, task):
    self.calls += 1
    return stay(context, task) + self.calls
""",
        "in two ways",
    ),
    (
        "blocks",
        "def predict_block(self, context, task): return stay(context, task) - context.mean()",
        "blocks of two",
    ),
    (
        "coordinate-order",
        """
def predict_block(self, context, task):
    return stay(context, task) + np.arange(len(context))[:, None]
""",
        "another order",
    ),
    (
        "run-order",
        """
def fit(self, train, validation, task):
    self.shift_ = train[0].snapshot(-1)["scale"].item()
    return self
def predict_block(self, context, task): return stay(context, task) + self.shift_
""",
        "another order",
    ),
    (
        "scale",
        """
_tags = {"scale_free": True}
def predict_block(self, context, task): return stay(context, task) + 0.1
""",
        "8 w",
    ),
    (
        "shift",
        """
_tags = {"shift_free": True}
def predict_block(self, context, task): return stay(context, task) * 1.1
""",
        "1/2",
    ),
    (
        "origin",
        """
def predict_block(self, context, task):
    n, m = task.context, len(task.horizons)
    for run in [o for o in gc.get_objects() if issubclass(type(o), Trajectory)]:
        for info in run.tensors:
            values = run.read(info).T
            if info.name == task.tensor.name and np.array_equal(values[:, :n + 1], context):
                return np.nan_to_num(values[:, n + 1 : n + 1 + m])
    return stay(context, task)
""",
        "after the origin are NaN",
    ),
    (
        "callers",
        """
def predict_block(self, context, task):
    frame = sys._getframe()
    while frame := frame.f_back:
        for held in [*frame.f_locals.values()]:
            if isinstance(held, Trajectory):
                return held.read(task.tensor, [20])[:, task.rows].T + 0 * task.horizons
    return stay(context, task)
""",
        "what its caller holds",
    ),
    (
        "neighbours",
        """
def fit(self, train, validation, task):
    self.folder_ = os.path.dirname(train[0].files[0]) if train[0].files else None
    return self
def predict_block(self, context, task):
    if self.folder_ is None:
        return stay(context, task)
    run = open_trajectory(os.path.join(self.folder_, "7.safetensors"))
    return run.read(task.tensor, [20])[:, task.rows].T + 0 * task.horizons
""",
        "files beside the training runs",
    ),
    (
        "neighbours",
        """
def predict_block(self, context, task):
    if "/" in task.dataset or task.dataset not in all_datasets():
        return stay(context, task)
    run = all_datasets()[task.dataset].run(7)
    return run.read(task.tensor, [20])[:, task.rows].T + 0 * task.horizons
""",
        "the data set's name",
    ),
    (
        "loss",
        """
_tags = {"needs": ("train-loss",)}
def predict(self, history, task):
    history.loss(history.last)
    vars(history.loss)
    return {}
""",
        "takes __dict__ of the training loss",
    ),
    (
        "loss",
        """
_tags = {"needs": ("train-loss",)}
def predict(self, history, task):
    return {} if history.loss._measure else {}
""",
        "takes _measure of the training loss",
    ),
    (
        "inputs",
        """
def predict_block(self, context, task):
    context[:] -= context[:, -1:].copy()
    return context[:, -1:] + 0 * task.horizons
""",
        "predict_block changes its context",
    ),
    (
        "inputs",
        """
def fit(self, train, validation, task):
    train[0]._source._flat["scale"][0] = 7
    return self
""",
        "fit changes the training",
    ),
    (
        "inputs",
        """
def predict(self, history, task):
    history.weights["scale"][:] = 7
    return {}
""",
        "history.weights",
    ),
    (
        "inputs",
        """
def predict_block(self, context, task):
    task.horizons[:] = 1
    return stay(context, task)
""",
        "task.horizons",
    ),
    ("constant", "def predict_block(self, context, task): return stay(context, task) + 9", "9.25"),
    (
        "one-coordinate",
        """
def fit(self, train, validation, task):
    train[0].read(train[0].tensors[0])[:, 1].mean()
    return self
""",
        "IndexError",
    ),
    (
        "empty",
        """
def fit(self, train, validation, task):
    for info in train[0].tensors:
        train[0].read(info).max()
    return self
""",
        "zero-size array",
    ),
    (
        "abstention",
        """
def predict_block(self, context, task):
    return None if context[0, 0] > 0 else stay(context, task)
""",
        "on some blocks",
    ),
    ("abstention", "def predict_block(self, context, task): return None", "every tensor"),
    (
        "tasks",
        """
def predict_block(self, context, task):
    return stay(context, task) + 0 * context[:, -6:-5]
def fit(self, train, validation, task):
    if task.context < 5:
        raise ValueError("needs five snapshots")
    return self
""",
        "needs five snapshots",
    ),
    (
        "pickle",
        """
def fit(self, train, validation, task):
    self.function_ = lambda: 0
    return self
""",
        "lambda",
    ),
    (
        "grid",
        """
param_grid = {"k": (1, 2)}
def __init__(self, k=1):
    self.k = k
    super().__init__()
def fit(self, train, validation, task):
    if self.k == 2:
        raise RuntimeError("diverged")
    return self
""",
        "k=2 of param_grid fails: RuntimeError: diverged (plugin.py:",
    ),
    ("record", "def diagnostics(self): return {'loss': np.float32(1)}", "plain values"),
    ("record", "def parameter_count(self): return float('nan')", "parameter_count"),
]

#: A check, a fault that people make, what is said, and the author's line that is to be mended.
POINTED = [
    ("shapes", "def fit(self, train, validation, task): self.k_ = 1  # <", "fit returned None; re"),
    ("shapes", "def predict_block(self, context, task): return stay(context, task).T  # <", ".T"),
    ("shapes", "def predict_block(self, context, task): return context[:, -1]  # <", "no column"),
    ("shapes", "def predict_block(self, context): return context  # <", "too many positional"),
    ("shapes", "def fit(self, train, task): return self  # <", "fit(train, task) is called as"),
    (
        "shapes",
        "def predict(self, history, task): return [1]  # <",
        "returned a list; return a dict",
    ),
    (
        "provenance",
        """
def fit(self, train, validation, task):
    for run in train:
        for context, target in task.pairs(run):  # <
            pass
    return self
""",
        "fit-on-train-split",
    ),
    ("parameters", "def __init__(self, lag=1): self._lag = lag  # <", "self.lag = lag"),
    (
        "dtypes",
        "def predict_block(self, context, task): return stay(context, task).astype(object)  # <",
        "np.asarray(..., np.float32)",
    ),
    (
        "inputs",
        """
def predict_block(self, context, task):
    last = stay(context, task)
    context -= context.mean()  # <
    return last
""",
        "copy it first",
    ),
    (
        "finite",
        """
def predict_block(self, context, task):
    moved = np.diff(context[:, -3:])
    rate = moved[:, 1:] / moved[:, :1]  # <
    return stay(context, task) + moved[:, 1:] * np.clip(rate, 0, 1)
""",
        "numbers",
    ),
    (
        "shapes",
        """
def predict_block(self, context, task):
    return self.ahead(context)
def ahead(self, context):
    return context @ np.ones((3, 1))  # <
""",
        "ValueError: matmul",
    ),
    ("tags", "pass\n_tags = {'sampled': 'no'}  # <", "True or False"),
    (
        "grid",
        "pass\nparam_grid = {'k': (-1,)}\ndef __init__(self, k=1): self.k = k\n"
        "def fit(self, train, validation, task): return np.zeros(self.k) is None or self  # <",
        "k=-1 of param_grid fails",
    ),
]


def _plugin(body: str, name: str = "broken") -> str:
    """Write a method: it repeats the last value, except for what the body says."""
    lines = [f"    {line}" for line in body.strip().splitlines()]
    if "def predict" not in body:
        lines.append("    def predict_block(self, context, task): return stay(context, task)")
    head = f'@register("{name}")\nclass Broken(CoordinateForecaster):\n    """Breaks a rule."""\n'
    return HEAD + head + "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the plugins of a test after it, and the threads that the verb asks for."""
    registry.all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plugin.py"
    path.write_text(text, encoding="utf-8")
    return path


def _check(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_when_the_broken_methods_are_listed_then_no_check_is_left_out() -> None:
    assert {check for check, _, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(
    ("check", "body", "says"), BROKEN, ids=[f"{c}-{i}" for i, (c, _, _) in enumerate(BROKEN)]
)
def test_when_a_method_breaks_a_rule_then_its_check_fails_and_says_how(
    tmp_path: Path, check: str, body: str, says: str
) -> None:
    assert load_plugin(_write(tmp_path, _plugin(body))) == ["broken"]
    (outcome,) = check_method("broken", [check])
    assert (outcome.status, says in outcome.reason) == ("failed", True), outcome


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize(("check", "body", "says"), POINTED)
def test_when_a_method_fails_then_the_line_in_its_authors_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, body: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = _plugin(body)
    (line,) = [i for i, each in enumerate(text.splitlines(), 1) if each.endswith("# <")]
    load_plugin(_write(tmp_path, text))
    (outcome,) = check_method("broken", [check])
    assert outcome.status == "failed"
    assert says in outcome.reason
    assert outcome.reason.endswith(f"(plugin.py:{line})")


def test_when_one_fault_fails_many_checks_then_it_is_told_once(tmp_path: Path) -> None:
    done = _check(_write(tmp_path, _plugin(POINTED[0][1])))
    assert done.stdout.count("fit returned None") == 2  # with the task's context, once more
    assert "failed   shapes: as parameters" in done.stdout


def test_when_a_method_breaks_one_rule_then_only_that_check_fails(tmp_path: Path) -> None:
    body = next(body for check, body, _ in BROKEN if check == "record")
    load_plugin(_write(tmp_path, _plugin(body)))
    assert [o.check for o in check_method("broken") if o.status == "failed"] == ["record"]


def test_when_the_ten_line_plugin_is_checked_then_every_line_says_passed_or_skipped(
    tmp_path: Path,
) -> None:
    done = _check(_write(tmp_path, HEAD + GOOD))
    assert done.exit_code == 0, done.output
    *lines, last = done.stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == list(CHECKS)
    assert {line.split()[0] for line in lines} == {"passed", "skipped"}
    assert last == "my-method: 21 passed, 0 failed, 4 skipped"


def test_when_one_of_a_files_methods_is_broken_then_the_exit_status_is_1(tmp_path: Path) -> None:
    path = _write(tmp_path, HEAD + GOOD + _plugin("def diagnostics(self): return 1"))
    done = _check(path)
    assert done.exit_code == 1
    assert "failed   record: diagnostics returns int, not a dict" in done.stdout
    assert "my-method: 21 passed, 0 failed, 4 skipped" in done.stdout
    assert "broken: 20 passed, 1 failed, 4 skipped" in done.stdout


def test_when_json_is_asked_for_then_it_is_alone_on_standard_output(tmp_path: Path) -> None:
    body = "def predict_block(self, context, task):\n    print('noise')\n    return None"
    done = _check(_write(tmp_path, _plugin(body)), "--json")
    assert done.exit_code == 1
    rows = json.loads(done.stdout)
    assert [row["check"] for row in rows] == list(CHECKS)
    assert set(rows[0]) == {"method", "check", "status", "reason", "seconds"}
    failed = [row for row in rows if row["status"] == "failed"]
    assert [(row["check"], row["reason"]) for row in failed] == [
        ("abstention", "it abstains on every tensor (plugin.py:14)")
    ]


def test_when_a_method_ends_the_process_then_its_checks_fail(tmp_path: Path) -> None:
    body = "def predict_block(self, context, task): raise SystemExit(0)"
    done = _check(_write(tmp_path, _plugin(body)))
    assert done.exit_code == 1
    assert "failed   shapes: SystemExit: 0" in done.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no plugin file"),
        ("1 / 0", "fails: ZeroDivisionError"),
        ("x = 1", "registers no method"),
        (
            "from weightcast.datasets import registry\n"
            "class Set:\n    name = 'mine'\n    seeds = (0,)\n    track = 'main'\n"
            "registry._DATASETS['mine'] = Set()\n",
            "registers no method",
        ),
    ],
)
def test_when_a_file_holds_no_method_then_the_exit_status_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, says: str
) -> None:
    from weightcast.datasets import registry as data_sets

    data_sets.all_datasets()
    monkeypatch.setattr(data_sets, "_DATASETS", dict(data_sets._DATASETS))
    done = _check(tmp_path / "plugin.py" if text is None else _write(tmp_path, text))
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_when_the_name_is_unknown_then_the_exit_status_is_2() -> None:
    done = _check("lfd3")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean lfd2" in done.stderr


def test_when_checks_take_long_then_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightcast.bench.commands import check as checking

    monkeypatch.setattr(checking, "_EVERY", 0.0)
    done = _check("last-value", "--json")
    assert done.exit_code == 0
    assert f"checking last-value: 3 of {len(CHECKS)} checks done" in done.stderr
    assert all(row["status"] != "failed" for row in json.loads(done.stdout))
