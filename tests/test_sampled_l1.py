"""L1 fits that start from a sample: how near they end to the optimum over all coordinates."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weightcast.datasets import Metadata, TensorInfo, Trajectory, make_task
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, Forecaster, lfd2, make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

CONTEXT, SNAPSHOTS = 2, 5
NOISES = {
    "normal": np.random.Generator.standard_normal,
    "heavy": np.random.Generator.standard_cauchy,
    "skewed": np.random.Generator.standard_exponential,
    "few large": lambda random, size: random.standard_normal(size) ** 5,
}


def _run(seed: int, size: int, noise: str, still: float, level: float, drift: float) -> Trajectory:
    """Make a run of two tensors, a share of whose coordinates stands still."""
    random = np.random.default_rng(seed)
    steps = drift * random.standard_normal(size) + NOISES[noise](random, (SNAPSHOTS, size))
    steps *= random.choice([0.01, 0.1, 1.0], size)
    steps[:, random.random(size) < still] = 0
    path = level + random.standard_normal(size) + np.cumsum(steps, axis=0)
    values = path.astype(np.float32)
    infos = [TensorInfo("w", (size - 100,), "linear"), TensorInfo("b", (100,), "bias")]
    arrays = {"w": values[:, :-100], "b": values[:, -100:]}
    return Trajectory.from_arrays(arrays, range(SNAPSHOTS), Metadata("toy", seed), infos)


def _objectives(method: Forecaster, runs: list[Trajectory], task: ForecastTask) -> np.ndarray:
    """Return the mean absolute error over training coordinates, by horizon."""
    assert isinstance(method, CoordinateForecaster)
    rows = np.concatenate([run.read(info).T for run in runs for info in run.tensors])
    forecast = method.predict_block(rows[:, : CONTEXT + 1], task)
    return np.abs(np.asarray(forecast, float) - rows[:, CONTEXT + 1 :]).mean(axis=0)


def _optimum(runs: list[Trajectory]) -> np.ndarray:
    """Return the least mean absolute error of a linear map, by horizon, as HiGHS finds it."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack

    rows = np.concatenate([run.read(info).T for run in runs for info in run.tensors]).astype(float)
    x = np.column_stack([rows[:, [0, CONTEXT]], np.ones(len(rows))])
    found = []
    for target in rows[:, CONTEXT + 1 :].T:
        # x θ + u − v = y with u, v ≥ 0: at the optimum u + v = |residual|.
        equations = hstack([csr_array(x), eye_array(len(x)), -eye_array(len(x))])
        cost = np.concatenate([np.zeros(3), np.ones(2 * len(x))])
        bounds = [(None, None)] * 3 + [(0, None)] * (2 * len(x))
        found.append(linprog(cost, A_eq=equations, b_eq=target, bounds=bounds).fun / len(x))
    return np.array(found)


@settings(max_examples=8, deadline=None)
# Few coordinates that move, and one horizon that still falls where the sum hardly does.
@example(sample=200, seed=0, size=783, noise="heavy", still=0.9, level=0.0, drift=0.0)
@given(
    sample=st.just(400),
    seed=st.integers(0, 10_000),
    size=st.integers(1700, 2500),
    noise=st.sampled_from(sorted(NOISES)),
    still=st.sampled_from([0.0, 0.4, 0.9]),
    level=st.sampled_from([0.0, 1.0, 30.0]),
    drift=st.sampled_from([0.0, 0.3, 3.0]),
)
def test_when_an_l1_fit_starts_from_a_sample_then_its_objective_is_a_linear_programmes(
    sample: int, seed: int, size: int, noise: str, still: float, level: float, drift: float
) -> None:
    runs = [_run(seed + i, size, noise, still, level, drift) for i in range(2)]
    task = make_task(runs[0], CONTEXT)
    with patch.object(lfd2, "SAMPLE", sample), patch.object(lfd2, "SAMPLE_BELOW", 4):
        method = make_method("lfd2").fit(runs, [], task)
    found, best = _objectives(method, runs, task), _optimum(runs)
    assert np.all(found <= 1.001 * best + 1e-6 * np.abs(level))
    assert np.all(found >= 0.999 * best - 1e-6 * np.abs(level))
