"""Published methods at the horizons that they were made for, beside baselines at the same ones."""

from __future__ import annotations

from weightcast.bench.plan.method_facts import MethodFacts
from weightcast.bench.results.native import BESIDE_NATIVE, native_standings
from weightcast.datasets import InputError
from weightcast.reports.numbers import plural
from weightcast.reports.tables import Column, Table, amount, value, words
from weightcast.reports.view import View


def native_table(view: View) -> Table | None:
    """Tabulate errors at native horizons; None where no method has any here."""
    try:
        standings, _ = native_standings(view.results)
    except InputError:
        return None
    table = Table(
        "Median over runs of the error over the distance moved, averaged over the method's native "
        "horizons; in each row all at the same horizons and on the same runs. Horizons are in "
        "snapshots of the data set, whatever the spacing that the method was published for.",
        [
            Column("method", numeric=False),
            Column("task", numeric=False),
            Column("made for", "snapshots seen and their spacing, as published", numeric=False),
            Column("horizons", "snapshots after the origin", numeric=False),
            Column("error"),
            *(Column(name, "at the same horizons") for name in BESIDE_NATIVE),
            Column("failed", "cells without a result, left out here"),
        ],
    )
    for s in standings:
        table.rows.append(
            [
                words(s.method, colour=view.looks[s.method].colour),
                words(s.task),
                words(_made_for(view.results.facts.get(s.method))),
                words(s.horizons),
                value(s.error, note=plural(s.runs, "run")),
                *(value(s.others[name]) for name in BESIDE_NATIVE),
                amount(s.failures),
            ]
        )
    return table


def _made_for(facts: MethodFacts | None) -> str:
    """Say what a method's published setting is, as far as it tells."""
    if facts is None:
        return ""
    seen, spacing = facts.native_context, facts.native_spacing
    said = plural(seen, "snapshot") if seen else ""
    if spacing:
        apart = f"{spacing} steps" if isinstance(spacing, int) else f"one {spacing}"
        said = f"{said}, {apart} apart" if said else f"{apart} apart"
    return said
