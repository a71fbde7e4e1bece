"""Tiers that a result folder lacks: why, and what would be needed."""

from __future__ import annotations

import tomllib
from typing import Any

from weightcast.bench.plan.loop_settings import no_tier
from weightcast.bench.results.cells import OWN
from weightcast.bench.results.tables import Results
from weightcast.datasets import all_datasets


def absent_tiers(results: Results, tier: str) -> list[str]:
    """Say of each data set without the tier ``function`` or ``loop`` why it has none.

    What an unfinished run has not come to yet is not told. The plugin of a data set need not be
    loaded: one that asks for the tier and has no row of it gives no network.

    Parameters
    ----------
    results : Results
    tier : str

    Returns
    -------
    list of str
        A line a data set; one for all where the suite does not ask for the tier.
    """
    suite = _suite(results)
    asked = suite.get("tiers", ["weights", "function"])
    # Of a folder that lost its suite.toml nobody knows what was asked.
    if suite and tier not in asked:
        said = ", ".join(asked)
        return [f'no {tier} tier: the suite asks for {said}; add "{tier}" to its tiers']
    cells = results.cells
    cells = cells[cells["track"].isin(OWN) & (cells["status"] == "ok")] if len(cells) else cells
    found = []
    for name in sorted(set(cells["dataset"]) if len(cells) else ()):
        here = cells[cells["dataset"] == name]
        if tier == "function":
            # Of forecasts on the sample alone no network is measured.
            absent = "function" not in set(here["tier"]) and bool(here["rel_sum"].notna().any())
        else:
            absent = all(row["dataset"] != name for row in results.loops)
        if not absent:
            continue
        known = all_datasets().get(name)
        if known is None and tier == "function":
            found.append(no_tier(tier, name, "gives no build() and loss()"))
        elif known is not None and known.no_network:
            found.append(no_tier(tier, name, known.no_network))
    return found


def _suite(results: Results) -> dict[str, Any]:
    try:
        return tomllib.loads(results.suite_toml)
    except tomllib.TOMLDecodeError:
        return {}
