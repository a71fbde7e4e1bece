"""The reference that changes nothing but how sure a network is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from weightcast.datasets import Trajectory, get_dataset
from weightcast.datasets.evaluator import rebuild
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.history import History, recorded_loss
from weightcast.datasets.task import make_task
from weightcast.methods import make_method

CONTEXT = 10


@pytest.mark.parametrize("seed", [0, 5])
def test_when_logits_are_scaled_then_it_is_by_the_best_temperature(seed: int) -> None:
    run = get_dataset("digits-mlp-sgd").run(seed)
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    history.loss = recorded_loss(run)
    method = make_method("logit-scale")
    forecast = method.predict(history, task)

    recipe = get_dataset("digits-mlp-sgd").recipe
    assert recipe is not None
    network, _ = rebuild(recipe)
    network.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in history.last.items()})
    examples = load_examples(recipe.data)
    with torch.no_grad():
        logits = network(examples.train_x).double()

    def loss(scale: float) -> float:
        return float(torch.nn.functional.cross_entropy(scale * logits, examples.train_y))

    best = minimize_scalar(loss, bounds=(1, 16), method="bounded")
    scale = method.diagnostics()["scale"]
    assert 1 < scale < 16
    assert loss(scale) == pytest.approx(best.fun, rel=1e-3)
    assert loss(scale) < 0.7 * loss(1)
    for name, weights in history.last.items():
        grown = np.float32(scale) if name.startswith("3.") else np.float32(1)
        for at in (0, len(task.horizons) - 1):
            np.testing.assert_array_equal(forecast[name][at], grown * weights)


def test_when_a_network_is_sure_enough_then_it_stays_and_few_losses_are_measured(
    toy_run: Callable[..., Trajectory],
) -> None:
    run = toy_run(np.linspace(0, 1, 61)[:, None] * np.ones(4))
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    calls = []

    def loss(weights: dict[str, np.ndarray]) -> float:
        calls.append(1)
        return float(sum((w.astype(float) ** 2).sum() for w in weights.values()))

    history.loss = loss  # type: ignore[assignment]
    forecast = make_method("logit-scale").predict(history, task)
    assert len(calls) <= 15
    for name, weights in history.last.items():
        np.testing.assert_array_equal(forecast[name], np.stack([weights] * len(task.horizons)))


def test_when_there_is_no_loss_then_it_says_so(toy_run: Callable[..., Trajectory]) -> None:
    run = toy_run(np.ones((61, 3)))
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    history.loss = None
    with pytest.raises(ValueError, match="logit-scale needs the training loss"):
        make_method("logit-scale").predict(history, task)
