"""How much of the loss is still to fall."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from weightcast.datasets import Trajectory, get_dataset
from weightcast.datasets.admission.descent import loss_falls

Make = Callable[..., Trajectory]
WEIGHTS = np.arange(61)[:, None] * np.ones(3)


def _with_losses(run: Trajectory, losses: np.ndarray) -> Trajectory:
    run.meta = replace(run.meta, train_loss=tuple(losses.tolist()))
    return run


def test_when_the_loss_halves_with_each_sixth_then_the_falls_are_powers(toy_run: Make) -> None:
    run = _with_losses(toy_run(WEIGHTS), 0.5 ** (np.arange(61) / 10))
    assert loss_falls([run]) == pytest.approx({"early": 1 / 2, "late": 1 - 0.5**5})


def test_when_a_loss_rises_then_its_fall_is_below_zero(toy_run: Make) -> None:
    run = _with_losses(toy_run(WEIGHTS), np.linspace(1, 7, 61))
    assert loss_falls([run]) == pytest.approx({"early": -1, "late": 1 - 7 / 2})


def test_when_a_run_has_no_loss_or_a_loss_of_zero_then_the_others_tell(toy_run: Make) -> None:
    silent = _with_losses(toy_run(WEIGHTS, 0), np.array([]))
    done = _with_losses(toy_run(WEIGHTS, 1), np.r_[np.ones(60), 0.0])
    assert all(math.isnan(fall) for fall in loss_falls([silent, done]).values())
    falls = _with_losses(toy_run(WEIGHTS, 2), 0.5 ** (np.arange(61) / 10))
    assert loss_falls([silent, done, falls]) == loss_falls([falls])


def test_when_info_is_asked_for_a_set_then_it_tells_how_far_the_loss_falls(
    weightcast: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    found = json.loads(weightcast("info", "digits-mlp-sgd", "--json").stdout)["falls"]
    dataset = get_dataset("digits-mlp-sgd")
    losses = np.array([dataset.run(seed).meta.train_loss for seed in dataset.seeds])
    assert found["late"] == pytest.approx(np.median(1 - losses[:, 60] / losses[:, 10]))
    said = f"takes away: {found['early']:.2f} in the first sixth, {found['late']:.2f} after"
    assert said in weightcast("info", "digits-mlp-sgd").stdout
