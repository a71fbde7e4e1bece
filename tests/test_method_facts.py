"""What methods say of themselves stands with their results."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from weightcast.bench.commands.merge import merge_folders
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.store.schema import add_seals
from weightcast.bench.engine.store.store import NAME, Store
from weightcast.bench.plan.loop_settings import CONTROLS
from weightcast.bench.plan.method_facts import facts_of
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError
from weightcast.methods import all_methods, load_plugin, registry

PLUGIN = '''
from typing import Any, ClassVar

from weightcast.methods import CoordinateForecaster, register


@register("mine")
class Mine(CoordinateForecaster):
    """Half of the way that the line goes.

    And more.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "zero-shot",
        "reference": "Somebody 2026",
        "tested_against": "a closed form",
        "native_context": 7,
        "native_spacing": "epoch",
    }

    def __init__(self, share: float = 0.5) -> None:
        import fractions

        self.share = share
        super().__init__()

    def predict_block(self, context, task):
        import scipy

        slope = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + self.share * slope * task.horizons[None, :]


@register("my-yardstick")
class Yardstick(Mine):
    _tags: ClassVar[dict[str, Any]] = {"role": "reference"}
'''
SUITE = """name = "small"
datasets = ["linreg-gd"]
methods = ["last-value", "mine", {name = "mine", params = {share = 0.25}}, "my-yardstick"]
contexts = [10]
rotations = 4
tiers = ["weights"]
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("plugin") / "halves.py"
    path.write_text(PLUGIN, encoding="utf-8")
    all_methods()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_METHODS", dict(registry._METHODS))
        load_plugin(path)
        yield path


@pytest.fixture(scope="module")
def folder(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("results")
    suite = place / "small.toml"
    suite.write_text(SUITE, encoding="utf-8")
    run_suite(RunOptions(str(suite), place / "out", plugins=[plugin]))
    return place / "out"


def test_when_a_method_is_asked_then_tags_and_origin_are_told(plugin: Path) -> None:
    facts = facts_of("mine", "{}")
    assert facts is not None
    assert (facts.provenance, facts.implementation, facts.role) == (
        "zero-shot", "ours", "forecaster",
    )  # fmt: skip
    assert facts.what == "Half of the way that the line goes."
    assert (facts.reference, facts.tested_against) == ("Somebody 2026", "a closed form")
    assert (facts.native_context, facts.native_spacing) == (7, "epoch")
    assert facts.origin == "halves.py"  # and not where it lies
    assert {"scipy", "weightcast"} <= set(facts.packages)
    assert not set(facts.packages) & sys.stdlib_module_names


@pytest.mark.parametrize("name", sorted(set(all_methods())))
def test_when_it_is_ours_then_there_is_something_to_tell(name: str) -> None:
    facts = facts_of(name, "{}")
    assert facts is not None
    assert facts.origin == f"weightcast {version('weightcast')}"
    assert facts.what.endswith(".")
    assert len(facts.code) == 64


def test_when_a_published_state_is_named_then_nothing_was_learned_here() -> None:
    retrained, published = facts_of("wnn", "{}"), facts_of("wnn", '{"state": "here"}')
    assert retrained is not None
    assert published is not None
    assert retrained.provenance == "fit-on-train-split"
    assert (published.provenance, published.implementation) == ("zero-shot", "authors' weights")


@pytest.mark.parametrize("name", [*CONTROLS, "not-registered-here"])
def test_when_there_is_no_such_method_then_there_is_nothing_to_tell(name: str) -> None:
    assert facts_of(name, "{}") is None


def test_when_a_plugin_is_gone_then_its_results_say_what_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = facts_of("mine", "{}")
    ours = {k: v for k, v in registry._METHODS.items() if "m" not in k}
    monkeypatch.setattr(registry, "_METHODS", ours)
    assert facts_of("mine", "{}") is None
    results = load_results(folder)
    assert set(results.facts) == {"last-value", "mine", "mine(share=0.25)", "my-yardstick"}
    assert results.facts["mine"] == there
    assert results.references == {"my-yardstick"}
    assert results.packages_used() is not None


def test_when_parts_are_merged_then_what_methods_said_comes_along(
    folder: Path, tmp_path: Path
) -> None:
    merge_folders([folder], tmp_path / "merged")
    assert load_results(tmp_path / "merged").methods == load_results(folder).methods


def test_when_a_method_says_something_else_later_then_that_stands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_folders([folder], tmp_path / "copy")
    changed = dict(registry._METHODS)
    monkeypatch.setattr(registry, "_METHODS", changed)
    other = type("Mine", (changed["mine"],), {"_tags": {"reference": "Somebody 2027"}})
    changed["mine"] = other
    with Store(tmp_path / "copy") as store:
        with store._transaction():
            store._add_methods([("mine", "{}")])
        assert store.methods()["mine", "{}"].reference == "Somebody 2027"
        assert store.methods()["mine", '{"share": 0.25}'].reference == "Somebody 2026"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("'{\"provenance\": 3}'", "facts"),
        ("'no JSON'", "facts: is not JSON"),
        ("NULL", "facts"),
        ("replace(facts, '\"role\"', '\"rule\"')", "facts.role"),
        (f"replace(facts, 'Somebody', '{'S' * 3000}')", "facts.reference"),
    ],
)
def test_when_what_a_method_says_is_not_ours_then_it_is_refused(
    folder: Path, tmp_path: Path, change: str, said: str
) -> None:
    merge_folders([folder], tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy" / NAME, isolation_level=None)) as db:
        add_seals(db)
        where = "WHERE method = 'mine'"
        db.execute(f"UPDATE methods SET facts = {change} {where}")
        names = [row[1] for row in db.execute("PRAGMA table_info(methods)") if row[1] != "seal"]
        db.execute(f"UPDATE methods SET seal = seal_of({', '.join(names)}) {where}")
    with pytest.raises(InputError, match=r"methods, row \d") as found:
        load_results(tmp_path / "copy")
    assert said in str(found.value)
    assert "\n" not in str(found.value)
