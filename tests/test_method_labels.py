"""Labels that leaderboards print are accepted wherever a method is named."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.suite import load_suite
from weightcast.datasets import InputError
from weightcast.methods.label import parse_label
from weightcast.methods.registry import get_method, implementation, make_method

Weightcast = Callable[..., subprocess.CompletedProcess[str]]

VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(),
    st.lists(st.integers(), max_size=3),
    st.from_regex(r"[a-z/][a-z0-9/_. -]{0,10}[a-z0-9]", fullmatch=True),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), VALUES, max_size=3))
def test_when_a_label_is_printed_then_it_reads_back_as_what_was_asked_for(
    params: dict[str, object],
) -> None:
    label = method_label("lfd2-grad", json.dumps(params))
    assert parse_label(label) == ("lfd2-grad", params)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("lfd2(", "does not close"),
        ("lfd2(alpha=1", "does not close"),
        ("ols-line(if-better)", "'if-better' is not a parameter with its value"),
        ("lfd2(alpha=1, alpha=2)", "gives alpha twice"),
        ("lfd2(nothing=1)", "unknown parameter of lfd2 'nothing'"),
        ("lfd3(alpha=1)", "unknown method 'lfd3'"),
    ],
)
def test_when_a_label_cannot_be_used_then_it_is_said_why(label: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        make_method(label)


def test_when_a_method_is_unknown_then_plugin_files_are_hinted_at(weightcast: Weightcast) -> None:
    done = weightcast("check", "my-idea")
    assert done.returncode == 2
    assert "--plugin FILE.py" in done.stderr


def test_when_a_label_names_a_method_then_its_class_and_tags_are_the_names() -> None:
    assert get_method("lfd2-grad(weight=0.5)") is get_method("lfd2-grad")
    assert make_method("lfd2-grad(weight=0.5)").get_params()["weight"] == 0.5
    assert implementation("lfd2-grad(weight=0.5)", {}) == implementation("lfd2-grad", {})


def test_when_a_suite_has_a_method_twice_then_a_label_takes_one_and_the_name_both(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.toml").write_text(
        'name = "s"\ndatasets = ["linreg-gd"]\ncontexts = [10]\n'
        'methods = ["last-value", "lfd2-grad(weight=0.1)", {name="lfd2-grad", params={weight=1}}]\n'
    )
    suite = load_suite(str(tmp_path / "s.toml"))

    def named(*labels: str) -> list[tuple[str, dict[str, object]]]:
        return [(e.name, e.params) for e in suite.resolve(list(labels)).methods]

    both = [("lfd2-grad", {"weight": 0.1}), ("lfd2-grad", {"weight": 1})]
    assert named("lfd2-grad") == both
    assert named("lfd2-grad(weight=1.0)") == both[1:]
    assert named("lfd2-grad(weight=7)", "last-value") == [
        ("lfd2-grad", {"weight": 7}), ("last-value", {}),
    ]  # fmt: skip


def test_when_labels_are_typed_then_they_run_and_are_checked(
    weightcast: Weightcast, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    label = "snapshot-average(k=4)"
    done = weightcast(
        "run", "--suite", "quick", "--datasets", "linreg-sgd", "--out", out,
        "--methods", f"last-value,{label}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert label in weightcast("leaderboard", out).stdout
    assert weightcast("leaderboard", out, "--baseline", label).returncode == 0
    assert f"{label}: " in weightcast("check", label).stdout
