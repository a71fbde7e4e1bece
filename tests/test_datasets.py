"""The registered data sets: what they promise, and that their runs are independent."""

from __future__ import annotations

import numpy as np
import pytest

from weightcast.datasets import (
    GeneratedDataSet,
    InputError,
    RecordedDataSet,
    all_datasets,
    get_dataset,
    register_dataset,
)
from weightcast.datasets.admission.gates import run_gates
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.splits import rotate
from weightcast.datasets.synthetic.linreg import LINREG_SGD, RATE

DIGITS = ["digits-mlp-sgd", "digits-mlp-adam"]


def _displacements(name: str, origin: int) -> np.ndarray:
    """Displacements from the origin to the end, (runs, d)."""
    dataset = get_dataset(name)
    rows = []
    for seed in dataset.seeds:
        run = dataset.run(seed)
        first, last = run.snapshot(origin), run.snapshot(-1)
        rows.append(np.concatenate([(last[k] - first[k]).ravel() for k in first]))
    return np.array(rows, dtype=np.float64)


@pytest.mark.parametrize("name", DIGITS)
def test_when_a_digits_set_is_read_then_it_has_twelve_whole_runs(name: str) -> None:
    dataset = get_dataset(name)
    assert dataset.missing() == ()
    runs = [dataset.run(seed) for seed in dataset.seeds]
    assert len(runs) == 12
    assert len({run.content_hash() for run in runs}) == 12
    for run in runs:
        assert run.n_snapshots == 61
        assert run.n_coordinates == 64 * 32 + 32 + 32 * 10 + 10
        assert [t.kind for t in run.tensors] == ["linear", "bias", "linear", "bias"]
        for losses in (run.meta.train_loss, run.meta.test_accuracy):
            assert len(losses) == 61
        assert len(run.meta.learning_rates) == 2700
        run.check_finite()
        assert all(gate.passed for gate in run_gates(run))
        assert len(run.meta.data) == 64


@pytest.mark.parametrize("name", DIGITS)
def test_when_recorded_weights_are_put_into_the_network_then_its_recorded_metrics_come_back(
    name: str,
) -> None:
    run = get_dataset(name).run(5)
    evaluator = evaluator_for(run.meta)
    assert evaluator is not None
    for index in (0, 17, 60):
        measured = evaluator.measure(run.snapshot(index))
        assert measured["train_loss"] == pytest.approx(run.meta.train_loss[index], rel=1e-4)
        assert measured["test_accuracy"] == pytest.approx(run.meta.test_accuracy[index], abs=0.003)


@pytest.mark.parametrize(
    "name", sorted(name for name, dataset in all_datasets().items() if not dataset.missing())
)
def test_when_the_mean_displacement_of_other_runs_forecasts_a_run_then_it_is_of_no_use(
    name: str,
) -> None:
    moved = _displacements(name, 10)
    others = (moved.sum(axis=0) - moved) / (len(moved) - 1)
    error = np.linalg.norm(moved - others, axis=1) / np.linalg.norm(moved, axis=1)
    assert np.median(error) >= 0.95


def test_when_sgd_and_adam_runs_share_a_seed_then_their_starts_differ() -> None:
    for seed in range(3):
        first, second = (get_dataset(name).run(seed).snapshot(0) for name in DIGITS)
        a, b = first["1.weight"].ravel(), second["1.weight"].ravel()
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        assert abs(cosine) < 0.1


def test_when_linreg_is_generated_twice_then_it_is_the_same_and_seeds_differ() -> None:
    assert LINREG_SGD.run(3).content_hash() == LINREG_SGD.run(3).content_hash()
    assert LINREG_SGD.run(3).content_hash() != LINREG_SGD.run(4).content_hash()


def test_when_linreg_runs_on_then_on_average_it_follows_the_full_batch_recurrence() -> None:
    # E[w_{t+1} | w_t] = (I − 2ηH) w_t + 2ηH ŵ, so the residual's mean over many steps is small.
    residuals, steps = [], []
    for seed in range(60):
        problem = LINREG_SGD.draw(seed)
        hessian, best = problem.x.T @ problem.x / len(problem.x), problem.optimum
        run = LINREG_SGD.run(seed)
        w = run.read(run.tensors[0]).astype(np.float64)
        expected = w[:-1] - 2 * RATE * (w[:-1] - best) @ hessian
        residuals.append(w[1:] - expected)
        steps.append(np.diff(w, axis=0))
    bias = np.abs(np.concatenate(residuals).mean(axis=0))
    noise = np.concatenate(residuals).std(axis=0) / np.sqrt(60 * 100)
    assert (bias < 5 * noise).all()
    assert np.concatenate(residuals).std() < np.concatenate(steps).std()


def test_when_linreg_has_trained_then_it_is_near_its_optimum_and_its_loss_is_as_recorded() -> None:
    closer = 0
    for seed in range(40):
        run = LINREG_SGD.run(seed)
        w = run.read(run.tensors[0])
        best = np.array(run.meta.truth["optimum"])
        closer += np.linalg.norm(w[-1] - best) < 0.5 * np.linalg.norm(w[0] - best)
        evaluator = evaluator_for(run.meta)
        assert evaluator is not None
        assert evaluator.train_loss(run.snapshot(50)) == pytest.approx(run.meta.train_loss[50])
    assert closer >= 30


def test_when_a_name_is_taken_by_another_data_set_then_it_is_refused() -> None:
    with pytest.raises(InputError, match="registered already"):
        register_dataset(
            GeneratedDataSet("linreg-sgd", (0,), "other", "here", "none", generate=LINREG_SGD.run)
        )


def test_when_a_run_is_missing_then_the_command_that_records_it_is_named(tmp_path: object) -> None:
    shipped = get_dataset("digits-mlp-sgd")
    assert isinstance(shipped, RecordedDataSet)
    absent = RecordedDataSet(
        "not-recorded", (0, 1), "d", "s", "l", recipe=shipped.recipe, bytes_per_run=2**20,
        seconds_per_run=3.0,
    )  # fmt: skip
    assert absent.missing() == (0, 1)
    with pytest.raises(InputError, match=r"weightcast record not-recorded --seeds 1 .*1\.0 MiB"):
        absent.run(1)


def test_when_seeds_rotate_then_each_is_tested_once_and_never_seen_in_training() -> None:
    for count, rotations in [(12, 4), (200, 4), (7, 3), (10, 5)]:
        splits = rotate(list(range(count)), rotations)
        assert sorted(seed for split in splits for seed in split.test) == list(range(count))
        for split in splits:
            groups = [set(split.train), set(split.validation), set(split.test)]
            assert all(groups)
            assert sum(map(len, groups)) == len(set.union(*groups)) == count


def test_when_seeds_come_in_another_order_then_the_splits_are_the_same() -> None:
    assert rotate([3, 1, 0, 2, 7, 5], 3) == rotate([0, 1, 2, 3, 5, 7], 3)


def test_when_runs_or_rotations_are_too_few_then_it_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3"):
        rotate(range(12), 2)
    with pytest.raises(InputError, match="cannot be cut"):
        rotate(range(3), 4)
    with pytest.raises(InputError, match="given twice"):
        rotate([1, 1, 2, 3], 3)
