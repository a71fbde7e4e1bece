"""Plugins that fail, leave or never come back: they are named, and nothing looks like success."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from weightcast.datasets import InputError, foreign_code, get_dataset
from weightcast.datasets import registry as datasets_registry
from weightcast.datasets.files.stacked import write_stacked
from weightcast.methods import load_plugin, registry

METHOD = '''
from weightcast.methods import CoordinateForecaster, register
@register("{name}")
class Method(CoordinateForecaster):
    """A method of the tests."""
    def predict_block(self, context, task):
        return context[:, -1:] + 0 * task.horizons
'''

#: What a plugin may do when it is imported, and what is said of it.
LEAVES = {
    "exit()": "sys.exit()",
    "quit(0)": "sys.exit(0)",
    "raise SystemExit": "sys.exit()",
    "import sys; sys.exit('done')": "sys.exit('done')",
    "import os; os._exit(0)": "os._exit",
    "from os import _exit\n_exit(7)": "os._exit",
    "import os\ntry: os._exit(0)\nexcept Exception: pass": "os._exit",
    "import os; os.abort()": "os.abort",
    "import os; os.execv('/bin/true', ['true'])": "os.execv",
    "import os; os.execlp('true', 'true')": "os.exec",
}
FAILS = {
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise BaseException('two\\nlines')": "BaseException: two lines",
    "import nothing_there": "No module named 'nothing_there'",
    "x = (": "SyntaxError",
    "def f(): f()\nf()": "RecursionError",
    "bytearray(10**15)": "MemoryError",
    "assert False, 'no'": "AssertionError: no",
}


def weightcast(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from weightcast.bench.cli import main; main()"]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(("code", "says"), (LEAVES | FAILS).items())
def test_when_a_plugin_leaves_or_fails_then_it_is_named_in_one_line(
    code: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.py"
    path.write_text(code + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_plugin(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert ("would end this command" in str(caught.value)) == (code in LEAVES)


@pytest.mark.parametrize(
    "verb",
    [
        ("run", "--suite", "quick", "--out", "out", "--plugin"),
        ("list", "methods", "--plugin"),
        ("check",),
    ],
)
def test_when_a_plugin_leaves_then_every_verb_exits_with_two(
    verb: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "theirs.py"
    path.write_text("import os; os._exit(0)", encoding="utf-8")
    done = weightcast(*[tmp_path / word if word == "out" else word for word in verb], path)
    assert done.returncode == 2
    assert "theirs.py calls os._exit" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_when_a_plugin_is_loaded_then_the_ways_out_are_as_before(tmp_path: Path) -> None:
    before = (os._exit, os.execv, signal.getsignal(signal.SIGINT))
    path = tmp_path / "theirs.py"
    path.write_text("import os; os._exit(0)", encoding="utf-8")
    with pytest.raises(InputError):
        load_plugin(path)
    assert (os._exit, os.execv, signal.getsignal(signal.SIGINT)) == before


def test_when_a_plugin_forks_then_its_child_may_end(tmp_path: Path) -> None:
    path = tmp_path / "theirs.py"
    code = "import os\nif os.fork() == 0: os._exit(3)\nassert os.wait()[1] == 3 << 8\n"
    path.write_text(code + METHOD.format(name="forks"), encoding="utf-8")
    assert load_plugin(path) == ["forks"]


def test_when_a_method_leaves_while_it_is_checked_then_the_check_has_failed(
    write_plugin: Callable[[str, str], Path],
) -> None:
    done = weightcast("check", write_plugin("leaves", "os._exit(0)"))
    assert done.returncode == 1, done.stderr
    assert "os._exit" in done.stdout


def test_when_an_import_never_ends_then_its_plugin_is_named_and_ctrl_c_ends_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "endless.py"
    path.write_text("while True: pass", encoding="utf-8")
    code = (
        "from weightcast.datasets import foreign_code\n"
        "foreign_code.SLOW = 0.1\n"
        "from weightcast.bench.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "list", "methods", "--plugin", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=300)[1].decode()
    assert "still loading plugin" in said
    assert "endless.py" in said
    assert "Traceback" not in rest
    assert process.returncode == 130


ENTRY_POINTS = {
    "leaves": ("import os; os._exit(0)", "theirs"),
    "exits": ("exit(0)", "theirs"),
    "fails": ("1/0", "theirs"),
    "broken": ("x = (", "theirs"),
    "no such module": ("", "not_there"),
    "no such name": ("", "theirs:missing.name"),
    "no name at all": ("", "theirs:"),
    "taken name": (METHOD.format(name="lfd2"), "theirs"),
    "half": (METHOD.format(name="half-done") + "\n1/0", "theirs"),
}


def _install(folder: Path, group: str, code: str, value: str) -> None:
    """Lay a distribution out as pip would install it."""
    (folder / "theirs.py").write_text(code, encoding="utf-8")
    info = folder / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(f"[{group}]\nmine = {value}\n", encoding="utf-8")


@pytest.mark.parametrize("group", ["weightcast.methods", "weightcast.datasets"])
@pytest.mark.parametrize(("code", "value"), ENTRY_POINTS.values(), ids=ENTRY_POINTS.keys())
def test_when_an_installed_plugin_is_broken_then_it_is_named_and_left_out(
    group: str,
    code: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _install(tmp_path, group, code, value)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    known = registry.all_methods(), datasets_registry.all_datasets()
    monkeypatch.setattr(registry, "_loaded", False)
    monkeypatch.setattr(datasets_registry, "_plugins_loaded", False)
    assert (registry.all_methods(), datasets_registry.all_datasets()) == known or "half" in code
    assert "half-done" not in registry.all_methods() or group.endswith("datasets")
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("weightcast: left out: plugin mine (package their-package, ")


def test_when_an_installed_plugin_is_broken_then_a_run_goes_on_and_says_it_once(
    tmp_path: Path,
) -> None:
    _install(tmp_path, "weightcast.methods", "exit(0)", "theirs")
    done = weightcast(
        "run", "--suite", "quick", "--methods", "last-value", "--datasets", "linreg-gd",
        "--out", tmp_path / "out", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "no failed cells"
    assert done.stderr.count("left out") == 1


def test_when_loading_takes_no_time_then_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.py"
    path.write_text(METHOD.format(name="quick-one"), encoding="utf-8")
    load_plugin(path)
    time.sleep(0.01)
    assert foreign_code.SLOW > 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("body", ["os._exit(0)", "raise SystemExit(0)", "exit()"])
def test_when_a_method_leaves_while_it_forecasts_then_the_forecast_has_failed(
    body: str, write_plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write_stacked(get_dataset("linreg-gd").run(0), tmp_path / "0.safetensors")
    out = tmp_path / "x.safetensors"
    done = weightcast(
        "forecast", tmp_path / "0.safetensors", "--plugin", write_plugin("leaves", body),
        "--method", "leaves", "--horizon", 3, "--out", out,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("weightcast: leaves failed: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.safetensors", "plugin.py"]
