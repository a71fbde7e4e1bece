"""Cards say what the store and the registry say, and nothing where they say nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.store.store import NAME
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import get_dataset
from weightcast.methods import get_method
from weightcast.methods.code import code_hash
from weightcast.reports.html import render_report
from weightcast.reports.sections.cards import Card, dataset_cards, method_cards
from weightcast.reports.view import View

SUITE = """name = "small"
datasets = ["digits-mlp-sgd", "linreg-gd"]
methods = [
    "last-value", "damped-line", {name = "damped-line", params = {lags = [1, 5]}},
    "lfd2-ols", "bema",
]
contexts = [10]
rotations = 4
tiers = ["weights"]
tuning = 3
jobs = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cards")
    (place / "small.toml").write_text(SUITE, encoding="utf-8")
    run_suite(RunOptions(str(place / "small.toml"), place / "out"))
    return place / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder)


def _cards(found: list[Card]) -> dict[str, dict[str, str]]:
    return {card.title: dict(card.facts) for card in found}


def test_when_methods_were_run_then_their_cards_say_what_they_are(results: Results) -> None:
    cards = _cards(method_cards(View(results)))
    assert set(cards) == {
        "last-value",
        "damped-line",
        "damped-line(lags=[1, 5])",
        "lfd2-ols",
        "bema",
    }
    for name in ("last-value", "damped-line", "lfd2-ols"):
        cls = get_method(name)
        assert cards[name]["provenance"] == cls.get_class_tag("provenance")
        assert cards[name]["code, SHA-256"] == code_hash(cls)
        assert cards[name].get("source", "") == cls.get_class_tag("reference")
    assert cards["damped-line"]["asked for"] == "its defaults"
    assert cards["damped-line(lags=[1, 5])"]["asked for"] == "lags = [1, 5]"


def test_when_fits_chose_settings_then_cards_count_them(folder: Path, results: Results) -> None:
    with closing(sqlite3.connect(folder / NAME)) as db:
        chosen = [
            json.loads(text)
            for (text,) in db.execute("SELECT chosen FROM fits WHERE method = 'bema'")
        ]
    card = _cards(method_cards(View(results)))["bema"]
    assert any(chosen)
    for one in chosen:
        said = ", ".join(f"{key} = {value}" for key, value in one.items()) or "its defaults"
        assert f"{said} ({chosen.count(one)} of {len(chosen)} fits)" in card["chosen"]
    assert card["tuned over"] == "3 configurations"


def test_when_data_sets_were_tested_then_their_cards_say_what_they_are(results: Results) -> None:
    cards = _cards(dataset_cards(View(results)))
    digits, line = cards["digits-mlp-sgd"], cards["linreg-gd"]
    known = get_dataset("digits-mlp-sgd")
    assert (digits["licence"], digits["source"]) == (known.licence, known.source)
    assert "learning_rate 0.05" in digits["recipe"]
    assert (digits["runs"], line["runs"]) == ("12", "200")
    for gate in results.gates["digits-mlp-sgd"]:
        assert digits[f"gate {gate['name']}"].startswith("passed: ")
    assert "recipe" not in line


def test_when_nothing_is_known_then_cards_say_that(results: Results) -> None:
    cells = results.cells.assign(dataset="somebody-elses")
    view = View(replace(results, methods={}, cells=cells))
    assert "nothing was kept" in _cards(method_cards(view))["damped-line"]["provenance"]
    (card,) = dataset_cards(view)
    assert (card.title, card.lead) == ("somebody-elses", "not registered here")


def test_when_rendered_then_every_card_opens(results: Results) -> None:
    page = render_report(results)
    for title in ("lfd2-ols", "linreg-gd"):
        assert f"<details><summary>{title}</summary>" in page
