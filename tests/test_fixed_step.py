"""`fixed-step`: the length is chosen on validation runs, and is the same for every run."""

import numpy as np
import pytest

from weightcast.datasets import InputError, Trajectory, make_task
from weightcast.datasets.rel import RelSums
from weightcast.methods import make_method


def straight_run(toy_run, share: float, seed: int = 0) -> Trajectory:
    """Go from 0 to 1 within the context of 10, and on to ``1 + share`` at once."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=40).astype(np.float32)
    way = np.concatenate([np.linspace(0, 1, 11), np.full(20, 1 + share)]).astype(np.float32)
    return toy_run(way[:, None] * direction, seed=seed)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_when_runs_stop_at_a_share_of_their_way_then_that_length_is_chosen(toy_run, share) -> None:
    runs = [straight_run(toy_run, share, seed) for seed in range(3)]
    task = make_task(runs[0], 10)
    method = make_method("fixed-step").fit([], runs, task)
    assert method.alpha_ == share


def test_when_a_length_is_chosen_then_no_other_candidate_has_a_lower_error(toy_run) -> None:
    rng = np.random.default_rng(3)
    runs = [
        toy_run(rng.normal(size=(31, 50)).cumsum(axis=0).astype(np.float32), seed=seed)
        for seed in range(3)
    ]
    task = make_task(runs[0], 10)

    def error(alpha: float) -> float:
        method = make_method("fixed-step", {"length": alpha}).fit([], runs, task)
        found = []
        for run in runs:
            sums = RelSums(len(task.horizons))
            for context, target in task.pairs(run):
                sums.add(method.predict_block(context, task), target, context[:, -1])
            found.append(sums.rel_sum())
        return float(np.median(found))

    chosen = make_method("fixed-step").fit([], runs, task)
    best = min(error(alpha) for alpha in chosen.lengths)
    assert error(chosen.alpha_) == pytest.approx(best, rel=1e-4)


def test_when_a_length_is_given_then_the_forecast_stops_there(toy_run) -> None:
    run = straight_run(toy_run, 0.0)
    task = make_task(run, 10)
    method = make_method("fixed-step", {"length": 0.2}).fit([], [], task)
    context = np.linspace(0, 1, 11, dtype=np.float32)[None]
    ahead = method.predict_block(context, task)[0]
    assert ahead == pytest.approx(1 + np.minimum(np.arange(1, 21) / 10, 0.2))


@pytest.mark.parametrize("length", [-0.1, float("nan"), float("inf")])
def test_when_a_length_is_no_length_then_it_is_refused(toy_run, length) -> None:
    run = straight_run(toy_run, 0.0)
    with pytest.raises(InputError, match="from 0 up"):
        make_method("fixed-step", {"length": length}).fit([], [run], make_task(run, 10))
