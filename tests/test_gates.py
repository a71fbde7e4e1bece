"""Admission gates, lineage and windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from weightcast.datasets import History, InputError, Trajectory, get_dataset, make_task
from weightcast.datasets.admission.gates import mean_displacement_errors, set_gates
from weightcast.datasets.admission.lineage import lineage, refuse_shared
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.window import named_window, thinned

Make = Callable[..., Trajectory]


def _failed(runs: list[Trajectory], track: str = "main") -> set[str]:
    return {gate.name for gate in set_gates(runs, track) if not gate.passed}


def _walks(make: Make, shared: float, count: int = 12) -> list[Trajectory]:
    """Runs that drift in a direction of their own and, by a share, in one common to all."""
    random = np.random.default_rng(0)
    common = random.standard_normal(200)
    time = np.arange(61)[:, None] / 60
    return [
        make(
            random.standard_normal(200)
            + time * (shared * common + (1 - shared) * random.standard_normal(200)),
            seed,
        )
        for seed in range(count)
    ]


@pytest.mark.parametrize("name", ["linreg-sgd", "digits-mlp-sgd", "digits-mlp-adam"])
def test_when_a_shipped_set_is_checked_then_it_passes_every_gate(name: str) -> None:
    dataset = get_dataset(name)
    gates = set_gates([dataset.run(seed) for seed in dataset.seeds], dataset.track)
    assert {gate.name for gate in gates} == {
        "enough-runs", "movement", "no-spikes", "no-shared-start",
    }  # fmt: skip
    assert all(gate.passed for gate in gates), gates


def test_when_runs_drift_the_same_way_then_the_shared_start_is_found_but_not_in_fine_tunes(
    toy_run: Make,
) -> None:
    assert _failed(_walks(toy_run, 0.0)) == set()
    together = _walks(toy_run, 0.9)
    assert _failed(together) == {"no-shared-start"}
    assert _failed(together, "fine-tune") == set()


def test_when_the_mean_displacement_is_left_out_then_it_is_as_written_down(toy_run: Make) -> None:
    runs = _walks(toy_run, 0.4, count=5)
    moved = np.array(
        [np.concatenate([run.read(t)[-1] - run.read(t)[10] for t in run.tensors]) for run in runs]
    )
    others = [np.delete(moved, i, axis=0).mean(axis=0) for i in range(5)]
    expected = np.linalg.norm(moved - others, axis=1) / np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(mean_displacement_errors(runs), expected, rtol=1e-5)
    np.testing.assert_allclose(mean_displacement_errors(runs, max_bytes=400), expected, rtol=1e-5)


def test_when_runs_stand_still_spike_or_are_few_then_the_gate_says_which(toy_run: Make) -> None:
    still = [toy_run(np.ones((61, 5)) + 1e-4 * np.arange(61)[:, None] / 60, s) for s in range(8)]
    assert "movement" in _failed(still)
    spiking = []
    for run in _walks(toy_run, 0.0, count=8):
        losses = (*run.meta.train_loss[:30], 50.0, *run.meta.train_loss[31:])
        run.meta = dataclasses.replace(run.meta, train_loss=losses)
        spiking.append(run)
    assert _failed(spiking) == {"no-spikes"}
    assert _failed(_walks(toy_run, 0.0, count=5)) == {"enough-runs"}


def test_when_a_test_run_shares_what_it_must_not_then_both_runs_are_named(toy_run: Make) -> None:
    runs = _walks(toy_run, 0.0, count=4)
    train, test = [lineage(run) for run in runs[:3]], [lineage(runs[3])]
    refuse_shared(train, test)
    with pytest.raises(InputError, match="toy/1 and training run toy/1 share their content"):
        refuse_shared(train, [train[1]])
    again = toy_run(runs[3].read(runs[3].tensors[0]).repeat(2, axis=1), 2)
    with pytest.raises(InputError, match="test run toy/2 and training run toy/2 share their seed"):
        refuse_shared(train, [lineage(again)])
    values = np.concatenate([runs[0].read(t) for t in runs[0].tensors], axis=1)
    values[1:] += 1.0
    same_start = lineage(toy_run(values, 9))
    with pytest.raises(InputError, match="share their initial state"):
        refuse_shared(train, [same_start])
    refuse_shared(train, [same_start], "fine-tune")


def test_when_windows_are_cut_then_they_are_halves_with_their_own_context() -> None:
    run = get_dataset("digits-mlp-adam").run(1)
    for name, first in (("early", 0), ("middle", 15), ("late", 30)):
        half = named_window(run, name)
        assert half.steps.tolist() == run.steps[first : first + 31].tolist()
        assert half.meta.train_loss == run.meta.train_loss[first : first + 31]
        np.testing.assert_array_equal(
            half.read(half.tensors[0], [0, 30]), run.read(run.tensors[0], [first, first + 30])
        )
        task = make_task(half, 10)
        assert task.horizon_steps[-1] == run.steps[first + 30]
        history = History.of(half, task)
        np.testing.assert_array_equal(history.initial["1.bias"], run.snapshot(0)["1.bias"])
        np.testing.assert_array_equal(history.weights["1.bias"][0], run.snapshot(first)["1.bias"])
    with pytest.raises(InputError, match="unknown window 'erly': did you mean early"):
        named_window(run, "erly")


def test_when_a_run_is_thinned_then_every_other_snapshot_is_left() -> None:
    run = get_dataset("digits-mlp-adam").run(1)
    thin = thinned(run, 2, 31)
    assert thin.steps.tolist() == run.steps[::2].tolist()
    assert thin.n_snapshots == 31


def test_when_problems_are_drawn_then_each_run_has_data_of_its_own() -> None:
    linreg, bowl = get_dataset("linreg-sgd"), get_dataset("quadratic-bowl")
    hashes = [lineage(dataset.run(seed)).data for dataset in (linreg, bowl) for seed in (0, 1)]
    assert len(set(hashes)) == 4
    assert lineage(linreg.run(0)).data == hashes[0]


def test_when_recorded_on_the_same_examples_then_runs_share_their_data() -> None:
    sgd, adam = get_dataset("digits-mlp-sgd").run(0), get_dataset("digits-mlp-adam").run(3)
    assert lineage(sgd).data == lineage(adam).data == load_examples("digits").sha256
