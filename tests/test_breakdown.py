"""A run's error taken apart: by kind of tensor, and from the network's input to its output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.scoring.breakdown import DEPTHS, breakdown, depth_part
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.metrics import WeightErrors
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import get_dataset, make_task
from weightcast.datasets.trajectory import KINDS, TensorInfo
from weightcast.methods import make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

M = 5
TENSORS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(1, 40)),
    min_size=1,
    max_size=12,
)


def _network(
    shapes: list[tuple[str, int, int]], seed: int
) -> tuple[list[TensorInfo], WeightErrors, list[np.ndarray]]:
    """Return tensors, their errors, and of each error and displacement: (c, 2, M)."""
    random = np.random.default_rng(seed)
    tensors, errors, rows = [], WeightErrors(M), []
    for place, (kind, depth, size) in enumerate(shapes):
        tensors.append(TensorInfo(f"t{place}", (size,), kind, depth))
        last = random.standard_normal(size).astype(np.float32)
        target = last[:, None] + random.standard_normal((size, M)).astype(np.float32)
        forecast = target + random.exponential() * random.standard_normal((size, M)).astype(
            np.float32
        )
        errors.add(f"t{place}", forecast, target, last)
        truth = target.astype(float)
        rows.append(np.stack([forecast - truth, truth - last[:, None]], axis=1))
    return tensors, errors, rows


def _rel_sum(rows: list[np.ndarray]) -> float:
    error, moved = np.linalg.norm(np.concatenate(rows), axis=0).sum(axis=-1)
    return float(error / moved)


@given(TENSORS, st.integers(0, 99))
def test_when_an_error_is_taken_apart_then_each_part_is_that_of_its_coordinates_alone(
    shapes: list[tuple[str, int, int]], seed: int
) -> None:
    tensors, errors, rows = _network(shapes, seed)
    found = breakdown(errors, tensors)
    expected = {
        f"rel_sum_kind_{kind}": [r for t, r in zip(tensors, rows, strict=True) if t.kind == kind]
        for kind in {tensor.kind for tensor in tensors}
    }
    depths = np.array([tensor.depth for tensor in tensors])
    if len(set(depths)) > 1:
        # How far along the network a layer is, from 0 to 1, by its place among the depths.
        along = np.unique(depths, return_inverse=True)[1] / (len(set(depths)) - 1)
        parts = {"input": along <= 0.25, "output": along >= 0.75}
        parts["middle"] = ~(parts["input"] | parts["output"])
        expected |= {
            f"rel_sum_depth_{part}": [r for r, there in zip(rows, of, strict=True) if there]
            for part, of in parts.items()
            if of.any()
        }
    assert found == {
        name: pytest.approx(_rel_sum(part), abs=2e-6, rel=1e-5) for name, part in expected.items()
    }


@given(st.integers(2, 60))
def test_when_layers_are_many_or_few_then_input_and_output_have_alike_many(levels: int) -> None:
    parts = [depth_part(level, levels) for level in range(levels)]
    assert parts == sorted(parts, key=DEPTHS.index)
    assert parts[0] == "input"
    assert parts[-1] == "output"
    assert parts.count("input") == parts.count("output")


def test_when_a_part_does_not_move_then_it_has_no_error_and_others_have() -> None:
    tensors, errors, _ = _network([("linear", 0, 6), ("linear", 1, 8)], 0)
    still = np.ones(3, np.float32)
    tensors.append(TensorInfo("still", (3,), "norm", 1))
    errors.add("still", np.zeros((3, M), np.float32), np.ones((3, M), np.float32), still)
    found = breakdown(errors, tensors)
    assert np.isnan(found["rel_sum_kind_norm"])
    assert np.isfinite([found["rel_sum_kind_linear"], found["rel_sum_depth_output"]]).all()


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        ("digits-mlp-sgd", ["depth_input", "depth_output", "kind_bias", "kind_linear"]),
        ("linreg-sgd", ["kind_linear"]),
    ],
)
def test_when_a_cell_is_scored_then_its_parts_are_and_those_of_the_last_value_are_one(
    dataset: str, parts: list[str]
) -> None:
    run = get_dataset(dataset).run(0)
    task = make_task(run, 10)
    sample = coordinate_sample(dataset, run.n_coordinates, 16)
    found = {}
    for name in ("last-value", "ols-line"):
        (row,) = evaluate_cell(make_method(name), run, task, sample)
        found[name] = {k[8:]: v for k, v in row.metrics.items() if k.startswith("rel_sum_")}
        found[name].pop("sample")
    assert sorted(found["last-value"]) == sorted(found["ols-line"]) == parts
    assert set(found["last-value"].values()) == {1.0}
    assert len(set(found["ols-line"].values())) == len(parts)


def test_when_a_method_forecasts_the_sample_alone_then_no_part_has_an_error() -> None:
    run, other = (get_dataset("digits-mlp-sgd").run(seed) for seed in (0, 1))
    task = make_task(run, 10)
    method = make_method("arima", {"order": (1, 1, 0)}).fit([other], [other], task)
    sample = coordinate_sample(run.meta.dataset, run.n_coordinates, 4)
    (row,) = evaluate_cell(method, run, task, sample)
    assert row.status == "ok", row.reason
    assert not [name for name in row.metrics if "_kind_" in name or "_depth_" in name]
