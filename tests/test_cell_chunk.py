"""Cells are checked many at a time as strictly as one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weightcast.bench.engine.store.cell_chunk import SIZE, CellChunk, cell_chunks
from weightcast.bench.engine.store.stored import StoredCell
from weightcast.datasets import InputError

GOOD: dict[str, Any] = {
    "fit": "a", "run": 3, "tier": "weights", "horizon_set": "common", "status": "ok",
    "reason": "", "traceback": "", "coverage": 1.0, "coordinates": 10,
    "metrics": '{"rel_sum": 0.5, "excluded_horizons": 2}', "curve": "[0.5, null, 1]",
    "predict_seconds": 0.1, "predict_cpu_seconds": None, "peak_memory_bytes": None,
    "evaluations": 0, "network_seconds": 0, "scoring_seconds": 0.0, "cell_seconds": 1e3,
    "fit_seconds": None, "fit_cpu_seconds": None, "fit_memory_bytes": 5, "jobs": 1,
}  # fmt: skip
NATIVE = GOOD | {"horizon_set": "native", "metrics": '{"horizons": "1-3,5", "rel_sum": 1}'}
JUNK = st.one_of(
    st.none(), st.integers(-3, 3), st.just(2**60), st.floats(allow_nan=False, width=32),
    st.binary(max_size=4), st.text(max_size=4),
    st.sampled_from([
        "common", "native", "foreign", "{}", "[]", "{", '{"a": 1}', '{"a": "b"}', '{"a": true}',
        '{"a": null}', '{"a": NaN}', '{"a": Infinity}', '{"horizons": "1-2"}', '{"horizons": "x"}',
        '{"horizons": 1}', '{"batch_norm": "kept"}', '{"batch_norm": 1}', '{"a": [1]}',
        "[1, null, 2.5]", "[NaN]", "[Infinity]", '["a"]', "[true]", "[[1]]", "null", "1",
    ]),
)  # fmt: skip


def _read(rows: list[dict[str, Any]], path: Path = Path("store")) -> list[CellChunk]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE cells ({', '.join(GOOD)})")
        marks = ", ".join("?" * len(GOOD))
        db.executemany(f"INSERT INTO cells VALUES ({marks})", [tuple(r.values()) for r in rows])
        return list(cell_chunks(db, path, "SELECT * FROM cells ORDER BY rowid"))


def _is_read(read: Callable[[], object], fault: type[Exception]) -> bool:
    try:
        read()
    except fault:
        return False
    return True


@given(st.sampled_from([GOOD, NATIVE]), st.sampled_from(sorted(GOOD)), JUNK, st.integers(0, 4))
def test_when_a_value_is_changed_then_a_chunk_is_refused_where_the_row_would_be(
    row: dict[str, Any], name: str, value: object, place: int
) -> None:
    changed = row | {name: value}
    rows = [GOOD, NATIVE, GOOD, NATIVE]
    rows.insert(place, changed)
    alone = _is_read(lambda: StoredCell.model_validate(changed), ValidationError)
    assert _is_read(lambda: _read(rows), InputError) == alone


@pytest.mark.parametrize("place", [0, SIZE - 1, SIZE, SIZE + 7])
def test_when_one_of_many_is_foreign_then_its_row_is_named(place: int) -> None:
    rows = [GOOD] * (SIZE + 20)
    rows[place] = GOOD | {"coverage": 1.5}
    with pytest.raises(InputError, match=f"cells, row {place + 1}: coverage: "):
        _read(rows)


def test_when_cells_are_read_then_they_are_what_the_models_hold() -> None:
    chunks = _read([GOOD, NATIVE] * SIZE)
    assert [len(chunk.metrics) for chunk in chunks] == [SIZE, SIZE]
    for chunk in chunks:
        for place in (0, 1, SIZE - 1):
            row = {name: values[place] for name, values in chunk.columns.items()}
            model = StoredCell.model_validate(row)
            assert chunk.metrics[place] == model.metrics
            assert np.array_equal(
                np.array(chunk.curves[place], float), np.array(model.curve, float), equal_nan=True
            )
