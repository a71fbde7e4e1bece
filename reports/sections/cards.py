"""Cards: what each method and data set is, where it comes from, and what it cost or passed."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weightcast.datasets import all_datasets
from weightcast.datasets.dataset import RecordedDataSet
from weightcast.reports.numbers import count, median, number, plural, seconds
from weightcast.reports.sections.setting import Facts
from weightcast.reports.view import View

if TYPE_CHECKING:
    import pandas as pd

    from weightcast.bench.plan.method_facts import MethodFacts

#: Several cells have one fit, and of one fit there is one choice.
_FIT = ["dataset", "trained_on", "track", "split", "context", "rotation", "repeat"]
_MOST_CHOICES = 4


@dataclass(frozen=True)
class Card:
    """A name, a line, and facts."""

    title: str
    lead: str
    facts: Facts


def method_cards(view: View) -> list[Card]:
    """Describe every method that was run, best first."""
    return [_method(view, label) for label in view.labels]


def _method(view: View, label: str) -> Card:
    rows = view.results.cells[view.results.cells["label"] == label]
    told = view.results.facts.get(label)
    facts = [*_said(told), *_asked(rows), *_measured(rows)]
    return Card(label, told.what if told else "", [(name, text) for name, text in facts if text])


def _said(told: MethodFacts | None) -> Facts:
    if told is None:
        return [("provenance", "nothing was kept of what the method says of itself")]
    return [
        ("source", told.reference),
        ("implementation", told.implementation),
        ("provenance", told.provenance),
        ("checked against", told.tested_against),
        ("licence", told.licence),
        ("comes from", told.origin),
        ("code, SHA-256", told.code),
    ]


def _asked(rows: pd.DataFrame) -> Facts:
    """Say the parameters that were asked for, and what fits chose."""
    if rows.empty:
        return []
    fits = rows.drop_duplicates(_FIT)
    tuned = fits[fits["tuning_configurations"] > 0]
    chosen = Counter(tuned["chosen"].astype(str))
    said = [
        f"{_settings(text)} ({many} of {plural(len(tuned), 'fit')})"
        for text, many in chosen.most_common(_MOST_CHOICES)
    ]
    if len(chosen) > _MOST_CHOICES:
        said.append(f"{len(chosen) - _MOST_CHOICES} more")
    tried = median(tuned["tuning_configurations"])
    return [
        ("asked for", _settings(rows["params"].iloc[0])),
        ("tuned over", plural(int(tried), "configuration") if tried > 0 else ""),
        ("chosen", "; ".join(said)),
    ]


def _settings(text: str) -> str:
    found = json.loads(text)
    if not isinstance(found, dict):
        return str(found)
    if not found:
        return "its defaults"
    return ", ".join(f"{key} = {value}" for key, value in found.items())


def _measured(rows: pd.DataFrame) -> Facts:
    if rows.empty:
        return []
    fits = rows.drop_duplicates(_FIT)
    ok = rows[rows["status"] == "ok"]
    weights = ok[ok["tier"] == "weights"]
    learned = median(fits["parameters"])
    flops = median(fits["flops_per_coordinate"])
    cells = rows[[*_FIT, "run", "status"]]
    failed = len(cells[cells["status"] != "ok"].drop_duplicates([*_FIT, "run"]))
    return [
        ("learned numbers", "" if math.isnan(learned) else f"{count(learned)}, the median fit"),
        ("operations", "" if math.isnan(flops) else f"{number(flops)} FLOPs a coordinate"),
        ("a fit takes", _median_seconds(fits["fit_seconds"])),
        ("a million coordinates take", _median_seconds(weights["predict_seconds_per_million"])),
        (
            "cells",
            f"{count(len(cells.drop_duplicates([*_FIT, 'run'])))}, {count(failed)} of them failed",
        ),
    ]


def _median_seconds(column: pd.Series[float]) -> str:
    found = median(column)
    return "" if math.isnan(found) else f"{seconds(found)}, the median"


def dataset_cards(view: View) -> list[Card]:
    """Describe every data set that has results."""
    return [_dataset(view, name) for name in dict.fromkeys(task.dataset for task in view.tasks)]


def _dataset(view: View, name: str) -> Card:
    rows = view.cells[view.cells["dataset"] == name]
    known = all_datasets().get(name)
    facts: Facts = [("track", ", ".join(sorted(set(rows["track"]))))]
    if known is not None:
        facts += [("source", known.source), ("licence", known.licence)]
        if isinstance(known, RecordedDataSet) and known.recipe is not None:
            recipe = known.recipe.to_json()
            facts.append(("recipe", ", ".join(f"{key} {_plain(recipe[key])}" for key in recipe)))
            facts.append(("recipe, SHA-256", known.recipe.hash))
    runs = rows["run"].nunique()
    sizes = rows["coordinates"].dropna()
    facts += [("runs", count(runs)), ("coordinates", count(sizes.max()) if len(sizes) else "")]
    gates = view.results.gates.get(name, [])
    facts += [
        (
            f"gate {gate['name']}",
            f"{'passed' if gate['passed'] else 'failed'}: {gate['value']:.3g} "
            f"({gate['meaning']} {gate['limit']:.3g})",
        )
        for gate in gates
    ]
    hashes = {str(gate["data"]) for gate in gates if gate.get("data")}
    facts.append(("runs, SHA-256", ", ".join(sorted(hashes))))
    what = known.description if known is not None else "not registered here"
    return Card(name, what, [(said, text) for said, text in facts if text])


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {inner}" for key, inner in value.items()) + ")"
    return str(value)
