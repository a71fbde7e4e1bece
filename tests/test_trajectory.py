"""Trajectories: blocks, hashes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.datasets import InputError, Metadata, TensorInfo, Trajectory
from weightcast.datasets.trajectory import block_ranges

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=5)


def _run(shapes: list[tuple[int, ...]], count: int) -> tuple[Trajectory, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    arrays = {
        f"t{i}": random.standard_normal((count, *shape)).astype(np.float32)
        for i, shape in enumerate(shapes)
    }
    return Trajectory.from_arrays(arrays, range(count), Metadata("toy", 0)), arrays


@given(SHAPES, st.integers(1, 4), st.integers(1, 200))
def test_when_blocks_are_walked_then_each_coordinate_comes_once_within_the_budget(
    shapes: list[tuple[int, ...]], count: int, budget: int
) -> None:
    run, arrays = _run(shapes, count)
    seen = {name: np.zeros((count, array[0].size), np.float32) for name, array in arrays.items()}
    visits = {name: np.zeros(array[0].size, int) for name, array in arrays.items()}
    for tensor, start, values in run.blocks(max_bytes=budget):
        assert values.nbytes <= max(budget, 4 * count)
        seen[tensor.name][:, start : start + values.shape[1]] = values
        visits[tensor.name][start : start + values.shape[1]] += 1
    for name, array in arrays.items():
        assert (visits[name] == 1).all()
        np.testing.assert_array_equal(seen[name], array.reshape(count, -1))


def test_when_offsets_are_asked_for_then_tensors_lie_end_to_end() -> None:
    run, _ = _run([(2, 3), (), (0,), (4,)], 2)
    assert [t.offset for t in run.tensors] == [0, 6, 7, 7]
    assert run.n_coordinates == 11
    ranges = list(block_ranges(run.tensors, 1, 8))
    assert all(stop - start <= 2 for _, start, stop in ranges)


def test_when_some_snapshots_are_read_then_only_they_come_in_the_order_asked() -> None:
    run, arrays = _run([(5,)], 4)
    got = run.read(run.tensors[0], [3, 1], 1, 4)
    np.testing.assert_array_equal(got, arrays["t0"][[3, 1], 1:4])


def test_when_anything_that_counts_changes_then_the_content_hash_does() -> None:
    base = {"a": np.zeros((3, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    meta = Metadata("toy", 0)
    reference = Trajectory.from_arrays(base, [0, 1, 2], meta).content_hash()
    changed = {name: array.copy() for name, array in base.items()}
    changed["b"][2, 1] = 5
    others = [
        Trajectory.from_arrays(changed, [0, 1, 2], meta),
        Trajectory.from_arrays(base, [0, 1, 3], meta),
        Trajectory.from_arrays({"a": base["a"], "c": base["b"]}, [0, 1, 2], meta),
        Trajectory.from_arrays({"a": base["a"], "b": base["b"][:, :, None]}, [0, 1, 2], meta),
    ]
    hashes = {run.content_hash() for run in others}
    assert reference not in hashes
    assert len(hashes) == len(others)


def test_when_only_timings_and_losses_differ_then_the_content_hash_is_the_same() -> None:
    base = {"a": np.ones((2, 2), np.float32)}
    slow = Metadata("toy", 0, seconds_per_step=9.0, train_loss=(2.0, 1.0))
    assert (
        Trajectory.from_arrays(base, [0, 1], Metadata("toy", 0)).content_hash()
        == Trajectory.from_arrays(base, [0, 1], slow).content_hash()
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_when_a_number_is_not_finite_then_tensor_and_step_are_named(bad: float) -> None:
    run, arrays = _run([(3,), (2, 2)], 3)
    arrays["t1"][2, 1, 0] = bad
    run = Trajectory.from_arrays(arrays, [0, 10, 25], run.meta)
    with pytest.raises(InputError, match=r"toy/0: tensor t1 has NaN or infinity at step 25"):
        run.check_finite()


def test_when_steps_do_not_increase_then_it_is_refused() -> None:
    with pytest.raises(InputError, match="steps must increase"):
        Trajectory.from_arrays({"a": np.zeros((2, 1), np.float32)}, [4, 4], Metadata("toy", 0))


def test_when_a_tensor_is_float64_then_it_is_refused() -> None:
    with pytest.raises(InputError, match="tensor a is float64"):
        Trajectory.from_arrays({"a": np.zeros((2, 1))}, [0, 1], Metadata("toy", 0))  # type: ignore[dict-item]


def test_when_a_name_is_looked_up_then_its_tensor_comes() -> None:
    run, _ = _run([(2,), (3,)], 2)
    assert run.tensor_info("t1") == TensorInfo("t1", (3,), offset=2)
