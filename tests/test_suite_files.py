"""Suite files: where something stands in them, and all that is wrong with one at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.plan.toml_lines import Place, line_of, toml_lines
from weightcast.datasets import InputError

_KEYS = st.text(max_size=4) | st.sampled_from(["a", "b.c", "x-y", '"', "'", "#", "[", "="])
_SCALARS = (
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.sampled_from(['"""', "'''", "a # b", "[x]", "\n\n", "\\", '"'])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in members:
        yield (*at, name)
        if isinstance(member, dict | list):
            yield from places(member, (*at, name))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.booleans())
def test_when_anything_is_written_as_toml_then_every_place_in_it_has_a_line(
    written: dict[str, Any], multiline: bool
) -> None:
    text = tomli_w.dumps(written, multiline_strings=multiline)
    found = toml_lines(text)
    assert set(found) == set(places(tomllib.loads(text)))
    lines = text.split("\n")
    assert all(1 <= line <= len(lines) for line in found.values())


def test_when_a_file_is_written_in_any_way_then_each_line_is_the_right_one() -> None:
    text = "\n".join(  # a number says which line it stands in
        [
            "one = 1 # two = 2", 'text = """', "three = 3", '"""', "five = 5", "",
            "list = [ 7,", "  8, # 9,", "  9 ]", 'pair = { "ten" = 10, b = [10, 10] }',
            "a.b.eleven = 11", "[table]", "thirteen = 13", "[[many]]", "fifteen = 15",
            "[[many]]", "seventeen = 17", "[many.inner]", "nineteen = 19", "'q.t'.twenty = 20",
        ]
    )  # fmt: skip
    found = toml_lines(text)
    whole = tomllib.loads(text)
    numbers = 0
    for place in places(whole):
        value: Any = whole
        for step in place:
            value = value[step]
        if isinstance(value, int):
            numbers += 1
            assert found[place] == value, place
    assert numbers == 14
    assert found["many", 1, "inner"] == 18
    assert line_of(found, ("many", 1, "absent", "x")) == 16
    assert line_of(found, ("absent",)) is None


WRONG = """\
name = "mine"
datasets = ["digits-mlp-sdg", "linreg-sgd"]
methods = [
    "last-value",
    "lfd3",
    { name = "snapshot-average", parms = { k = 5 } },
    4,
    { name = "snapshot-average", params = { q = 5 } },
]
contexts = [10, 0, "x"]
rotatoins = 4
timeout = -1.0

[loop]
uses = ["jmp", "outer"]
schedules = ["constant", "linear-0"]

[loop.optimizers]
sgdd = [0.1, 0.2, 0.4]

[[shifts]]
track = "shift-optimiser"
train = "digits-mlp-sgd"
"""


def refusal(path: Path, text: str, *options: str) -> list[str]:
    path.write_text(text, encoding="utf-8")
    out = path.parent / "out"
    done = CliRunner().invoke(app, ["run", "--suite", str(path), "--out", str(out), *options])
    assert done.exit_code == 2, done.output
    assert not out.exists()
    return done.stderr.splitlines()


def test_when_much_of_a_file_is_wrong_then_all_is_said_with_lines_and_what_would_do(
    tmp_path: Path,
) -> None:
    first, *lines = refusal(tmp_path / "s.toml", WRONG)
    assert first == f"weightcast: {tmp_path / 's.toml'} is not a suite; 14 errors:"
    expected = [
        ("line 2: datasets.0", "did you mean digits-mlp-sgd"),
        ("line 5: methods.1", "unknown method 'lfd3': did you mean lfd2"),
        ("line 6: methods.2.parms", "did you mean params? choices are name, params"),
        ("line 7: methods.3", "is 4, and has to be a name, or a table with name and params"),
        ("line 8: methods.4.params", "unknown parameter of snapshot-average 'q': choices are k"),
        ("line 10: contexts.1", "is 0, and has to be a whole number from 1 to 1,000,000"),
        ("line 10: contexts.2", 'is "x", and has to be a whole number'),
        ("line 11: rotatoins", "did you mean rotations"),
        ("line 12: timeout", "is -1.0, and has to be a number above 0, up to 31,622,400"),
        ("line 15: loop.uses.0", "did you mean jump? choices are jump, outer, read-out"),
        ("line 16: loop.schedules.1", "take constant or linear-F"),
        ("line 19: loop.optimizers.sgdd", "did you mean sgd?"),
        ("line 21: shifts.0.test", "is missing; it has to be a data set"),
        ("line 22: shifts.0.track", '"shift-optimizer", "shift-architecture"'),
    ]
    assert len(lines) == len(expected)
    for line, (place, says) in zip(lines, expected, strict=True):
        assert line.startswith(f"  {place}: "), line
        assert says in line, line


def test_when_names_and_parameters_alone_are_wrong_then_all_are_said_but_those_left_out(
    tmp_path: Path,
) -> None:
    text = """\
name = "mine"
datasets = ["digits-mlp-sgd", "no-such-set"]
methods = [
    "lfd3",
    { name = "snapshot-average", params = { q = 5 } },
    "last-value",
]
"""
    path = tmp_path / "s.toml"
    first, *lines = refusal(path, text)
    assert first.endswith("3 errors:")
    assert [line.partition(": unknown")[0] for line in lines] == [
        "  line 2: datasets.1", "  line 4: methods.0", "  line 5: methods.1.params",
    ]  # fmt: skip
    chosen = "--datasets", "digits-mlp-sgd", "--methods", "last-value,snapshot-average"
    (line,) = refusal(path, text, *chosen)
    assert "line 5: methods.1.params: unknown parameter of snapshot-average 'q'" in line


@given(st.text(max_size=40) | st.sampled_from(["methods = [[[", "a = 1\na = 2", "loop = 3"]))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_when_anything_is_in_a_file_then_it_is_refused_without_a_traceback(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="suite"):
        load_suite(str(path))


def test_when_an_error_has_several_lines_then_its_text_is_still_one() -> None:
    error = InputError("wrong\n", "a\x1b", "b")
    assert error.lines == ("wrong", "a", "b")
    assert str(error) == "wrong: a; b"
