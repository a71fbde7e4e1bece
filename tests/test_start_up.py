"""What the command line loads before there is anything to do with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import weightcast.datasets
import weightcast.methods

HEAVY = {
    "distributed", "matplotlib", "pandas", "pyarrow", "scipy", "sklearn", "sktime", "statsmodels",
    "torch", "transformers",
}  # fmt: skip


def _loaded(*arguments: object) -> set[str]:
    """Run a command in a process of its own; return the top-level modules that it loaded."""
    code = (
        "import sys\n"
        "from weightcast.bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["forecast", "--help"]])
def test_when_help_is_asked_for_then_not_even_numpy_loads(arguments: list[str]) -> None:
    assert not (HEAVY | {"numpy", "rich"}) & _loaded(*arguments)


@pytest.mark.parametrize("what", ["methods", "datasets", "suites"])
def test_when_a_list_is_asked_for_then_no_heavy_library_loads(what: str) -> None:
    assert not (HEAVY | {"rich"}) & _loaded("list", what)


def test_when_a_run_has_nothing_to_do_then_no_heavy_library_loads(tmp_path: Path) -> None:
    run = (
        "run", "--suite", "quick", "--methods", "last-value,ar1", "--datasets",
        "linreg-gd,digits-mlp-sgd", "--out", tmp_path / "out",
    )  # fmt: skip
    _loaded(*run)
    assert not HEAVY & _loaded(*run)


@pytest.mark.parametrize("package", [weightcast.datasets, weightcast.methods])
def test_when_a_name_is_offered_then_it_is_there_and_no_other_is(package: object) -> None:
    offered = package.__all__  # type: ignore[attr-defined]
    assert sorted(package._PLACES) == sorted(offered)  # type: ignore[attr-defined]
    for name in offered:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        package.no_such_name  # type: ignore[attr-defined]  # noqa: B018
