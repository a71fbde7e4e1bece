"""What `weightcast list` shows, without loading a heavy library."""

from __future__ import annotations

from typing import Any


def listing(what: str) -> list[dict[str, Any]]:
    """List ``"methods"``, ``"datasets"`` or ``"suites"`` as rows with a ``name``."""
    return {"methods": _methods, "datasets": _datasets, "suites": _suites}[what]()


def _methods() -> list[dict[str, Any]]:
    from weightcast.methods.forecaster import CoordinateForecaster
    from weightcast.methods.registry import all_methods

    return [
        {
            "name": name,
            "level": "coordinate" if issubclass(cls, CoordinateForecaster) else "network",
            "role": cls.get_class_tag("role", "forecaster"),
            "provenance": cls.get_class_tag("provenance"),
            "implementation": cls.get_class_tag("implementation", "ours"),
            "tested_against": cls.get_class_tag("tested_against", ""),
            "tuned": ", ".join(cls.param_grid),
            "what": _first_line(cls.__doc__),
        }
        for name, cls in sorted(all_methods().items())
    ]


def _datasets() -> list[dict[str, Any]]:
    from weightcast.datasets.dataset import RecordedDataSet
    from weightcast.datasets.registry import all_datasets

    return [
        {
            "name": name,
            "runs": len(dataset.seeds),
            "track": dataset.track,
            "here": not dataset.missing(),
            "kind": "recorded" if isinstance(dataset, RecordedDataSet) else "generated",
            "what": dataset.description,
        }
        for name, dataset in sorted(all_datasets().items())
    ]


def _suites() -> list[dict[str, Any]]:
    from weightcast.bench.plan.suite import load_suite, suite_names

    suites = [load_suite(name) for name in suite_names()]
    return [
        {
            "name": suite.name,
            "datasets": ", ".join(suite.datasets),
            "methods": len(suite.resolve().methods),
            "contexts": ", ".join(map(str, suite.contexts)),
            "what": suite.description,
        }
        for suite in suites
    ]


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text and text.strip() else ""
