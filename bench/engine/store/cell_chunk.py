"""Cells read many at a time: columns are checked as wholes, and a row by itself only in doubt.

A folder may hold a hundred thousand cells. Building a model for each takes most of the time of a
leaderboard; what the model asks of a column can be seen of all its values at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from weightcast.bench.engine.store.stored import StoredCell, is_metrics, not_ours

#: Rows of a chunk.
SIZE = 4096

_WORDS = ("fit", "tier", "status")
_TEXTS = ("reason", "traceback", "metrics", "curve")
_COUNTS = ("evaluations", "jobs")
_NUMBERS = (
    "predict_seconds", "predict_cpu_seconds", "network_seconds", "scoring_seconds", "cell_seconds",
    "fit_seconds", "fit_cpu_seconds", "coverage",
)  # fmt: skip
_WHOLE = ("peak_memory_bytes", "fit_memory_bytes", "coordinates")
_NONE = type(None)


@dataclass(frozen=True)
class CellChunk:
    """Rows of ``cells``, checked.

    Attributes
    ----------
    columns : dict of str to sequence
        As stored, a value a row.
    metrics : list of dict
        Parsed.
    curves : list of list of float or None
        Parsed.
    """

    columns: dict[str, Sequence[Any]]
    metrics: list[dict[str, Any]]
    curves: list[list[float | None]]


def cell_chunks(db: sqlite3.Connection, path: Path, query: str) -> Iterator[CellChunk]:
    """Yield the cells that a query finds, in its order.

    Raises
    ------
    InputError
        With the first row that is not as `StoredCell` says.
    """
    cursor = db.execute(query)
    names = [column[0] for column in cursor.description]
    first = 1
    while rows := cursor.fetchmany(SIZE):
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        metrics, curves = _parsed(columns["metrics"]), _parsed(columns["curve"])
        if not _is_sound(columns, metrics, curves):
            _check_each(path, names, rows, first)
            metrics, curves = _parsed(columns["metrics"]), _parsed(columns["curve"])
        yield CellChunk(columns, metrics, curves)
        first += len(rows)


def _check_each(path: Path, names: Sequence[str], rows: list[Any], first: int) -> None:
    for place, row in enumerate(rows, first):
        try:
            StoredCell.model_validate(dict(zip(names, row, strict=True)))
        except ValidationError as error:
            raise not_ours(path, f"cells, row {place}", error) from None


def _parsed(texts: Sequence[Any]) -> list[Any]:
    """Parse a column of JSON; nothing where some of it is none."""
    try:
        return [from_json(text) for text in texts]
    except (ValueError, TypeError, RecursionError):
        return []


def _is_sound(columns: dict[str, Sequence[Any]], metrics: list[Any], curves: list[Any]) -> bool:
    """Say whether every row surely is as `StoredCell` says; in doubt it is not."""
    kinds = {name: set(map(type, values)) for name, values in columns.items()}
    return (
        kinds.keys() == StoredCell.model_fields.keys()
        and all(kinds[name] <= {str} for name in (*_WORDS, *_TEXTS, "horizon_set"))
        and all(all(columns[name]) for name in _WORDS)
        and set(columns["horizon_set"]) <= {"common", "native"}
        and kinds["run"] <= {int}
        and all(kinds[name] <= {int} and min(columns[name]) >= 0 for name in _COUNTS)
        and all(kinds[name] <= {float, int, _NONE} for name in _NUMBERS)
        and all(kinds[name] <= {int, _NONE} for name in _WHOLE)
        and all(known >= 0 for known in columns["coordinates"] if known is not None)
        and all(0 <= known <= 1 for known in columns["coverage"] if known is not None)
        # SQLite knows no NaN, but JSON's readers do.
        and not any("NaN" in text for text in chain(columns["metrics"], columns["curve"]))
        and len(metrics) == len(curves) == len(columns["run"])
        and all(type(found) is dict and is_metrics(found) for found in metrics)
        and set(map(type, curves)) <= {list}
        and set(map(type, chain.from_iterable(curves))) <= {float, int, _NONE}
        and all(
            "horizons" in found
            for found, horizons in zip(metrics, columns["horizon_set"], strict=True)
            if horizons == "native"
        )
    )
