"""How much of a step is drift and how much noise."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from weightcast.datasets import Trajectory
from weightcast.datasets.admission.drift import drift_share, drift_shares

Make = Callable[..., Trajectory]
RANDOM = np.random.default_rng(0)
TIME = np.arange(61)[:, None]


def test_when_all_steps_are_the_same_then_all_of_them_lasts(toy_run: Make) -> None:
    assert drift_share(toy_run(TIME * np.ones(20)), range(61)) == pytest.approx(1)


def test_when_weights_walk_at_random_then_nothing_lasts(toy_run: Make) -> None:
    walk = RANDOM.standard_normal((61, 5000)).cumsum(axis=0)
    assert abs(drift_share(toy_run(walk), range(61))) < 0.01


def test_when_weights_are_drawn_about_a_point_then_nothing_lasts(toy_run: Make) -> None:
    assert abs(drift_share(toy_run(RANDOM.standard_normal((61, 5000))), range(61))) < 0.02


def test_when_noise_is_laid_over_a_drift_then_the_drifts_part_is_told(toy_run: Make) -> None:
    # Each step is a drift of 1 and a draw of variance 3 a coordinate: a quarter lasts.
    walk = TIME + np.sqrt(3) * RANDOM.standard_normal((61, 5000)).cumsum(axis=0)
    assert drift_share(toy_run(walk), range(61)) == pytest.approx(0.25, abs=0.01)
    # Draws about a moving point count twice in a step: 1 of 1 + 2 · 1.5.
    drawn = TIME + np.sqrt(1.5) * RANDOM.standard_normal((61, 5000))
    assert drift_share(toy_run(drawn), range(61)) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_when_a_share_is_computed_then_it_is_what_a_loop_over_steps_says(
    toy_run: Make, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((12, 7)).cumsum(axis=0).astype(np.float32).astype(float)
    snapshots = sorted(random.choice(12, 8, replace=False).tolist())
    steps = [values[b] - values[a] for a, b in itertools.pairwise(snapshots)]
    lasting = np.mean([a @ b for a, b in zip(steps, steps[2:], strict=False)])
    expected = lasting / np.mean([step @ step for step in steps])
    assert drift_share(toy_run(values), snapshots) == pytest.approx(expected, rel=1e-9)


def test_when_nothing_moves_or_snapshots_are_few_then_no_share_is_told(toy_run: Make) -> None:
    assert math.isnan(drift_share(toy_run(np.ones((61, 3))), range(61)))
    assert math.isnan(drift_share(toy_run(TIME * np.ones(3)), range(3)))


def test_when_a_set_has_a_run_without_movement_then_the_others_tell(toy_run: Make) -> None:
    runs = [toy_run(np.ones((61, 3)), 0), toy_run(TIME * np.ones(3), 1)]
    assert drift_shares(runs) == pytest.approx({"early": 1, "late": 1})


def test_when_info_is_asked_for_a_set_then_it_tells_the_share(
    weightcast: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    found = json.loads(weightcast("info", "digits-mlp-sgd", "--json").stdout)["drift"]
    assert 0 < found["late"] < found["early"] < 1
    lines = weightcast("info", "digits-mlp-sgd").stdout
    assert f"median share of a step that lasts: {found['early']:.2f} in the first sixth" in lines
