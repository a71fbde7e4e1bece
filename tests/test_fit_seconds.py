"""A cell keeps what its own fit took, whatever becomes of the fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from weightcast.bench.engine.events import CellDone, Fitted
from weightcast.bench.engine.records import CellRow, FitRecord
from weightcast.bench.engine.site import Site
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.tables import load_results


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\ndatasets = ["digits-mlp-sgd"]\nmethods = ["lfd2-ols"]\ncontexts = [10]\n'
        'tiers = ["weights"]\n'
    )
    return make_plan(load_suite(str(path)).resolve(), RunCache(None))[0]


def _cell(fit: Fit, seed: int) -> CellDone:
    row = CellRow(seed, "weights", metrics={"rel_sum": 1.0}, coverage=1.0)
    return CellDone(fit, seed, [row], Site())


def test_when_a_fit_is_made_anew_then_finished_cells_keep_the_seconds_of_theirs(
    fit: Fit, tmp_path: Path
) -> None:
    first, second, third = fit.split.test[:3]
    with Store(tmp_path / "out", create=True) as store:
        store.add([Fitted(FitRecord(fit, fit_seconds=1.0, site=Site())), _cell(fit, first)])
        # Killed; the next run makes the fit anew for the cells that are missing.
        store.add([Fitted(FitRecord(fit, fit_seconds=9.0, site=Site(jobs=4))), _cell(fit, second)])
        store.add([_cell(fit, third)])
        keys = dict(fit.cells)
        assert store.finished(timed=True) == {keys[first]}
        assert store.finished() == {keys[first], keys[second], keys[third]}
    table = load_results(tmp_path / "out").cells
    assert dict(zip(table["run"], table["fit_seconds"], strict=True)) == {
        first: 1.0, second: 9.0, third: 9.0,
    }  # fmt: skip
