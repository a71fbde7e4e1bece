"""A run that jumped to forecasts of itself is no data for a benchmark of forecasts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from weightcast.bench.plan.run_cache import RunCache
from weightcast.datasets import GeneratedDataSet, InputError, Trajectory, registry


@pytest.mark.parametrize("jumps", [(), (5,), (5, 12)])
def test_when_a_run_jumped_then_a_benchmark_refuses_it(
    jumps: tuple[int, ...], toy_runs: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    jumped = copy.copy(toy_runs[3])
    jumped.meta = replace(jumped.meta, jumps=jumps)
    runs = [*toy_runs[:3], jumped, *toy_runs[4:]]
    drawn = GeneratedDataSet(
        "toy", tuple(range(len(runs))), "drawn", "drawn", "BSD-3-Clause", generate=runs.__getitem__
    )
    monkeypatch.setitem(registry._DATASETS, "toy", drawn)
    if not jumps:
        assert set(RunCache(None).lineages("toy")) == set(range(len(runs)))
        return
    with pytest.raises(InputError, match="toy/3 jumped to a forecast after step 5: ") as found:
        RunCache(None).lineages("toy")
    assert 'jump="never"' in str(found.value)
