"""The time left of a run, from what ended so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from weightcast.bench.engine.events import Ended
from weightcast.bench.engine.time_left import TimeLeft


@dataclass
class Unit:
    """A unit of ten cells."""

    key: str
    shown: tuple[str, str]
    slow: bool = False
    like_others: bool = False
    keys: list[str] = field(default_factory=lambda: [str(i) for i in range(10)])


def _units() -> list[Any]:
    """Three slow methods and a fast one on a set, two units each."""
    return [
        Unit(f"{name} {i}", ("a-set", name), slow=name != "line")
        for name in ("arima", "theta", "lstm", "line")
        for i in range(2)
    ]


def test_when_no_unit_has_ended_then_nothing_is_claimed() -> None:
    assert math.isnan(TimeLeft(_units(), 2).estimate())


def test_when_only_fast_methods_have_been_then_nothing_is_claimed() -> None:
    left = TimeLeft(_units(), 2)
    left.saw(Ended("line 0", ("a-set", "line"), 0.1))
    assert math.isnan(left.estimate())


def test_when_no_slow_method_is_left_then_fast_ones_are_enough() -> None:
    left = TimeLeft([unit for unit in _units() if not unit.slow], 1)
    left.saw(Ended("line 0", ("a-set", "line"), 0.1))
    assert left.estimate() == pytest.approx(0.1)


def test_when_one_slow_method_is_known_then_the_others_are_taken_to_be_as_slow() -> None:
    left = TimeLeft(_units(), 2)
    left.saw(Ended("arima 0", ("a-set", "arima"), 40.0))
    # Five units of slow methods at 40 s, and two of a fast one: a tenth of the fastest at most.
    assert left.estimate() == pytest.approx((5 * 40 + 2 * 4) / 2)
    left.saw(Ended("theta 0", ("a-set", "theta"), 10.0))
    assert left.estimate() == pytest.approx((40 + 10 + 2 * 25 + 2 * 1) / 2)


def test_when_all_methods_are_known_then_their_own_means_count() -> None:
    left = TimeLeft(_units(), 1)
    for name, seconds in (("arima", 40.0), ("theta", 10.0), ("lstm", 30.0), ("line", 0.2)):
        left.saw(Ended(f"{name} 0", ("a-set", name), seconds))
    assert left.estimate() == pytest.approx(40 + 10 + 30 + 0.2)
