"""Modules that a plugin imports: found beside it, part of its code, run as they were hashed."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weightcast.datasets import InputError
from weightcast.methods import get_method, load_plugin, registry
from weightcast.methods.code import code_hash
from weightcast.methods.plugin_modules import plugin_files

PLUGIN = """
{imports}
from weightcast.methods import CoordinateForecaster, register


@register("{name}")
class Method(CoordinateForecaster):
    \"\"\"Scales the last value.\"\"\"

    def predict_block(self, context, task):
        {inside}
        return context[:, -1:] * {scale} + 0 * task.horizons
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a plugin and what lies beside it."""

    def do(
        imports: str,
        scale: str,
        inside: str = "pass",
        name: str = "scaled",
        files: dict[str, str] | None = None,
    ) -> Path:
        for place, text in (files or {}).items():
            path = tmp_path / f"{place}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        plugin = tmp_path / f"{name}.py"
        plugin.write_text(PLUGIN.format(imports=imports, inside=inside, scale=scale, name=name))
        return plugin

    return do


def _loaded(plugin: Path, name: str = "scaled") -> tuple[float, str]:
    """Load a plugin; return by what its method scales, and its code hash."""
    registry._METHODS.pop(name, None)
    assert load_plugin(plugin) == [name]
    cls = get_method(name)
    return _scale(name), code_hash(cls)


def _scale(name: str = "scaled") -> float:
    class Task:
        horizons = np.ones(1, np.float32)

    return float(get_method(name)().predict_block(np.ones((1, 3), np.float32), Task())[0, 0])


#: How a plugin imports, and what it calls SCALE.
WAYS = {
    "a module": ("import helper_x", "helper_x.SCALE", "pass", "helper_x"),
    "a name": ("from helper_x import SCALE", "SCALE", "pass", "helper_x"),
    "another name": ("import helper_x as h", "h.SCALE", "pass", "helper_x"),
    "a package": ("import kit", "kit.SCALE", "pass", "kit/__init__"),
    "a dotted name": ("import kit.deep.numbers as n", "n.SCALE", "pass", "kit/deep/numbers"),
    "a module of a package": ("from kit import numbers", "numbers.SCALE", "pass", "kit/numbers"),
    "in a function": ("", "kit.numbers.SCALE", "import kit.numbers", "kit/numbers"),
    "by a string": (
        "import importlib", "importlib.import_module('helper_x').SCALE", "pass", "helper_x",
    ),
    "through another": ("from between_x import SCALE", "SCALE", "pass", "helper_x"),
    "relatively": ("from kit.inner import SCALE", "SCALE", "pass", "kit/numbers"),
    "from above": ("from kit.sub.inner import SCALE", "SCALE", "pass", "kit/numbers"),
    "by a package's own __init__": ("import kit.other", "kit.SCALE", "pass", "kit/__init__"),
    "all of it": ("from helper_x import *", "SCALE", "pass", "helper_x"),
}  # fmt: skip
BESIDE = {
    "between_x": "from helper_x import SCALE",
    "helper_x": "SCALE = 0.25",
    "kit/__init__": "",
    "kit/deep/__init__": "",
    "kit/deep/numbers": "SCALE = 0.25",
    "kit/numbers": "SCALE = 0.25",
    "kit/other": "",
    "kit/inner": "from .numbers import SCALE",
    "kit/sub/__init__": "",
    "kit/sub/inner": "from ..numbers import SCALE",
}


@pytest.mark.parametrize("way", WAYS)
def test_when_a_module_that_a_plugin_imports_changes_then_so_do_its_hash_and_what_it_does(
    write: Write, way: str
) -> None:
    imports, scale, inside, where = WAYS[way]
    files = BESIDE | {where: "SCALE = 0.50"}
    plugin = write(imports, scale, inside, files=files)
    first, before = _loaded(plugin)
    assert first == 0.5
    changed = plugin.parent / f"{where}.py"
    times = changed.stat()
    changed.write_text("SCALE = 1.25")  # as many bytes
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # compiled files are told by it
    second, after = _loaded(plugin)
    assert (second, after != before) == (1.25, True)
    changed.write_text("SCALE = 0.50")
    assert _loaded(plugin) == (0.5, before)


def test_when_a_module_changes_that_is_not_imported_then_the_hash_stays(write: Write) -> None:
    plugin = write("import helper_x", "helper_x.SCALE", files=BESIDE)
    _, before = _loaded(plugin)
    (plugin.parent / "kit" / "numbers.py").write_text("SCALE = 3")
    assert _loaded(plugin)[1] == before


def test_when_a_module_changes_after_it_was_hashed_then_what_was_hashed_runs(write: Write) -> None:
    plugin = write("", "helper_x.SCALE", "import helper_x", files=BESIDE)
    registry._METHODS.pop("scaled", None)
    load_plugin(plugin)
    (plugin.parent / "helper_x.py").write_text("SCALE = 9.0")
    assert _scale() == 0.25  # it is imported only now


def test_when_a_plugin_imports_a_module_of_this_package_then_that_is_in_the_hash(
    write: Write,
) -> None:
    plain = _loaded(write("", "1.0", name="plain"), "plain")[1]
    leaning = write("from weightcast.methods import ols_line", "1.0", name="plain")
    assert _loaded(leaning, "plain")[1] != plain


def test_when_only_libraries_are_imported_then_their_files_are_not_in_the_hash(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or plain(path))
    _loaded(write("import json, numpy.linalg, pandas", "1.0"))
    assert {path.name for path in read if "weightcast" not in str(path)} <= {"scaled.py"}


def test_when_a_folder_beside_a_plugin_has_no_init_then_its_modules_are_found(
    write: Write,
) -> None:
    plugin = write(
        "import loose.deep.numbers as n", "n.SCALE", files={"loose/deep/numbers": "SCALE = 0.5"}
    )
    assert _loaded(plugin)[0] == 0.5


def test_when_plugins_have_modules_of_one_name_then_it_is_said(
    write: Write, tmp_path: Path
) -> None:
    _loaded(write("import helper_x", "helper_x.SCALE", files=BESIDE))
    other = tmp_path / "other"
    other.mkdir()
    (other / "helper_x.py").write_text("SCALE = 0.75")
    (other / "another.py").write_text(
        PLUGIN.format(imports="import helper_x", inside="pass", scale="1", name="another")
    )
    with pytest.raises(InputError, match="imports helper_x, for which there are both") as caught:
        load_plugin(other / "another.py")
    assert "\n" not in str(caught.value)
    registry._METHODS.pop("scaled")  # the first one is not in use any more
    assert load_plugin(other / "another.py") == ["another"]


def test_when_a_module_beside_a_plugin_is_named_like_an_installed_one_then_it_is_said(
    write: Write,
) -> None:
    plugin = write("import jinja2", "1.0", files={"jinja2": "SCALE = 1"})
    with pytest.raises(InputError, match="imports jinja2, for which there are both"):
        load_plugin(plugin)


def test_when_a_module_beside_a_plugin_is_not_imported_by_it_then_nobody_finds_it(
    write: Write,
) -> None:
    plugin = write("import helper_x", "helper_x.SCALE", files=BESIDE | {"stray_x": "SCALE = 1"})
    _loaded(plugin)
    with pytest.raises(ModuleNotFoundError):
        __import__("stray_x")


def test_when_a_plugin_is_sent_then_all_modules_of_its_own_go_along(
    write: Write, tmp_path: Path
) -> None:
    plugin = write("import helper_x\nfrom kit.sub.inner import SCALE", "SCALE", files=BESIDE)
    expected = _loaded(plugin)
    files = plugin_files(plugin)
    assert set(files) == {
        "scaled.py", "helper_x.py", "kit/__init__.py", "kit/numbers.py", "kit/sub/__init__.py",
        "kit/sub/inner.py",
    }  # fmt: skip
    for place, content in files.items():
        path = tmp_path / "there" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert _loaded(tmp_path / "there" / "scaled.py") == expected
