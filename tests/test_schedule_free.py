"""Schedule-Free optimizers against the paper's recursion and what it averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weightcast.bench.loop.stepping.runs import Optimizer
from weightcast.bench.loop.stepping.schedule_free import ScheduleFree
from weightcast.bench.loop.stepping.side_by_side import SideBySide
from weightcast.bench.plan.loop_settings import recipe_of


@pytest.mark.parametrize("beta", [0.0, 0.9, 1.0])
def test_when_sgd_is_schedule_free_then_it_is_the_papers_recursion_on_a_quadratic(
    beta: float,
) -> None:
    # Minimise a w²/2: g(y) = a y, written out in scalars.
    a, rate = 3.0, 0.1
    w = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    made = ScheduleFree([w], rate, beta)
    x = z = 2.0
    steps_of_z = []
    for t in range(1, 30):
        made.zero_grad()
        (a * w.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
        made.step()
        z -= rate * a * ((1 - beta) * z + beta * x)
        steps_of_z.append(z)
        x = (1 - 1 / t) * x + z / t
        assert float(made.averaged()[0]) == pytest.approx(x, rel=1e-12)
        assert float(w.detach()) == pytest.approx((1 - beta) * z + beta * x, rel=1e-12)
    # At a constant rate x is the plain mean of all z.
    assert x == pytest.approx(np.mean(steps_of_z), rel=1e-12)


def test_when_weights_are_moved_then_a_schedule_free_run_goes_on_from_there() -> None:
    table = np.full((2, 12), 1e-5)  # no gradient moves it as far as it is moved
    optimizer = Optimizer("schedule-free-sgd", 0.9)
    runs = SideBySide(recipe_of("digits-mlp-sgd"), optimizer, table, [0, 0], ["0", "0"], 64)
    for _ in range(6):
        runs.step()
    runs.weights[1] += 1e-3
    before = runs.weights.clone()
    for _ in range(6):
        runs.step()
    moved = runs.weights - before
    # Both z and x were moved: else x would be drawn half the way back to where z had stayed.
    assert float((moved[1] - moved[0]).abs().max()) < 1e-5
