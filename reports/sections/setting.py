"""What was run and where: the suite, the data and the machine."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from weightcast.datasets import all_datasets
from weightcast.reports.numbers import memory
from weightcast.reports.tables import Column, Table, amount, words
from weightcast.reports.view import View

if TYPE_CHECKING:
    import pandas as pd

Facts = list[tuple[str, str]]


def suite_facts(view: View) -> Facts:
    """List what the suite asked for, as far as ``suite.toml`` is there to say."""
    suite = _suite(view)
    # The last command may have named some data sets alone; the table says which have results.
    labels = {
        "name": "suite",
        "description": "description",
        "contexts": "contexts",
        "rotations": "rotations",
        "tuning": "tuning budget",
        "tiers": "tiers",
        "sample": "coordinate sample",
        "seed": "seed",
    }
    if not len(view.results.cells):
        # What the suite says of cells says nothing where the loop tier alone was run.
        labels = {name: labels[name] for name in ("name", "description", "tiers")}
    facts = []
    for name, label in labels.items():
        if name in suite and suite[name] != "":
            text = _listed(suite[name])
            if name == "tuning":
                text = f"{text} configurations" if suite[name] else "none, all defaults"
            if name == "rotations":
                text = f"{text}, every run is tested once"
            facts.append((label, text))
    return facts


def loop_facts(view: View) -> Facts:
    """List how the loop tier was run; nothing where it was not."""
    loop = _suite(view).get("loop")
    if not view.results.loops or not isinstance(loop, dict):
        return []
    labels = {
        "context": "snapshots before a jump",
        "spacing": "steps between them",
        "horizon": "a jump's horizon",
        "lengths": "lengths along it",
        "accept": "jumps accepted",
        "reset": "optimizer state",
        "measure_every": "measured every",
        "measured": "measured on",
    }
    units = {"horizon": " snapshots", "measure_every": " steps", "measured": " examples"}
    facts = []
    for name, label in labels.items():
        if loop.get(name) is None:
            continue
        text = f"{_listed(loop[name])}{units.get(name, '')}"
        if name == "reset":
            text = "forgotten at a jump" if loop[name] else "kept at a jump"
        if name == "context":
            text = f"w₀ and {text} more"
        facts.append((label, text))
    return facts


def _suite(view: View) -> dict[str, Any]:
    try:
        return tomllib.loads(view.results.suite_toml)
    except tomllib.TOMLDecodeError:
        return {}


def dataset_table(view: View) -> Table:
    """Describe each data set and context that has results."""
    known = all_datasets()
    table = Table(
        "Counted in the results; the description is the registry's.",
        [
            Column("data set", numeric=False),
            Column("context", "snapshots after w₀ that a method sees"),
            Column("runs"),
            Column("coordinates", "weights of one network"),
            Column("horizons", "snapshots to forecast"),
            Column(
                "gates",
                "admission gates; one of track main that fails is not ranked",
                numeric=False,
            ),
            Column("what it is", numeric=False),
        ],
    )
    for task in view.tasks:
        rows = view.at(view.cells, task)
        lengths = [
            curve.shape[1]
            for (_, dataset, context), curve in view.results.curves.items()
            if (dataset, context) == (task.dataset, task.context) and curve.ndim == 2
        ]
        coordinates = rows["coordinates"].dropna()
        size = float(coordinates.max()) if len(coordinates) else None
        what = known[task.dataset].description if task.dataset in known else ""
        table.rows.append(
            [
                words(task.dataset, note=_track(rows)),
                amount(task.context),
                amount(rows["run"].nunique()),
                amount(size),
                amount(max(lengths) if lengths else None),
                words(_gates(view, task.dataset)),
                words(what),
            ]
        )
    return table


def _track(rows: pd.DataFrame) -> str:
    """Name the track of a data set that does not count in the headline."""
    track = str(rows["track"].iloc[0])
    return "" if track == "main" else f"track {track}"


def _gates(view: View, dataset: str) -> str:
    """Say whether a data set passed its admission gates, or which it failed."""
    gates = view.results.gates.get(dataset)
    if not gates:
        return "not checked"
    failed = [str(gate["name"]) for gate in gates if not gate["passed"]]
    return f"failed: {', '.join(failed)}" if failed else "passed"


def environment_facts(environment: dict[str, Any]) -> Facts:
    """List the machine and the versions."""
    if not environment:
        return [("environment", "the folder has no environment.json")]
    packages = environment.get("packages") or {}
    facts = [
        ("processor", str(environment.get("cpu", ""))),
        ("cores", str(environment.get("cores", ""))),
        ("memory", memory(environment.get("memory_bytes"))),
        ("system", str(environment.get("system", ""))),
        ("Python", str(environment.get("python", ""))),
        ("packages", ", ".join(f"{k} {v}" for k, v in packages.items() if v)),
        ("workers", str(environment.get("jobs", ""))),
        ("threads a worker", str(environment.get("threads_per_worker", ""))),
        ("commit", str(environment.get("commit") or "not known")),
        ("last run began", str(environment.get("written", ""))),
    ]
    return [(name, text) for name, text in facts if text]


def _listed(found: Any) -> str:
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)
