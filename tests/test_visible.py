"""What a ranking says it would have told, it tells: by its own rule, in 80 of 100 cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from weightcast.bench.results.inference.pairwise import LEVEL, pairwise
from weightcast.bench.results.inference.visible import smallest_difference


def _names(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


def _sets(rng: np.random.Generator, offsets: Any, runs: int, second: float | None = None) -> Any:
    """Draw errors of methods, (methods, runs) a data set; the second's lies above the first's."""
    levels = np.linspace(0.5, 0.95, offsets.shape[1])
    if second is not None:
        levels[1] = levels[0] * (1 + second)
    shape = (offsets.shape[1], runs)
    return [levels[:, None] * np.exp(o[:, None] + rng.normal(0, 0.1, shape)) for o in offsets]


@pytest.mark.parametrize(
    ("count", "sets", "runs", "between"),
    [(6, 1, 40, 0.0), (16, 1, 40, 0.0), (36, 1, 40, 0.0), (16, 6, 12, 0.0), (16, 6, 12, 0.3)],
)
def test_when_a_difference_is_as_large_as_said_then_it_is_mostly_told(
    count: int, sets: int, runs: int, between: float
) -> None:
    rng, names = np.random.default_rng(1), _names(count)
    offsets = rng.normal(0, between, (sets, count))
    offsets -= offsets.mean(axis=0)
    said = []
    for _ in range(9):
        errors = _sets(rng, offsets, runs)
        seen = smallest_difference(pairwise(names, errors), errors, "m0", ["m1"])
        assert seen is not None
        said.append(seen)
    size = float(np.median(said))
    assert math.isfinite(size)

    def told(second: float) -> float:
        drawn = [_sets(rng, offsets, runs, second) for _ in range(150)]
        return float(np.mean([pairwise(names, one).p[0, 1] < LEVEL for one in drawn]))

    assert 0.6 < told(size) < 0.97
    assert told(size / 3) < 0.5


def test_when_runs_are_too_few_for_so_many_pairs_then_nothing_would_be_told() -> None:
    rng, names = np.random.default_rng(1), _names(16)
    errors = _sets(rng, np.zeros((1, 16)), 12)
    assert smallest_difference(pairwise(names, errors), errors, "m0", names[1:]) == math.inf
    apart = _sets(rng, np.zeros((1, 16)), 12, second=9.0)
    assert pairwise(names, apart).p[0, 1] >= LEVEL


def test_when_another_is_the_same_then_it_says_nothing_of_scatter() -> None:
    errors = [np.ones((2, 12))]
    assert smallest_difference(pairwise(["a", "b"], errors), errors, "a", ["b"]) is None
