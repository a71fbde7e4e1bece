"""What summing a forecast's errors takes, against the plain form with coordinates in rows.

Nanoseconds a number, for forecasts and targets in either order: methods give rows of coordinates,
runs are read by snapshot. The plain form is what `weightcast.datasets.rel` was before.

python benchmarks/error_sums.py [--coordinates 200000] [--horizons 20]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from weightcast.datasets.rel import RelSums
from weightcast.datasets.trajectory import Floats

Add = Callable[[Floats, Floats, Floats], object]
#: Coordinates that the plain form adds at a time.
_ROWS = 4096
_ROUNDS = 5


def plain(forecast: Floats, target: Floats, last: Floats) -> None:
    """Add a block as it was done with coordinates in rows."""
    for start in range(0, len(last), _ROWS):
        rows = slice(start, start + _ROWS)
        anchor = last[rows, None].astype(np.float64)
        truth, step = target[rows] - anchor, forecast[rows] - anchor
        error = step - truth
        for one, other in ((error, error), (truth, truth), (step, step), (step, truth)):
            np.einsum("cm,cm->m", one, other)
        np.abs(error).sum(axis=0)


def seconds(add: Add, *block: Floats) -> float:
    """Return the shortest of a few times."""
    took = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        add(*block)
        took.append(time.perf_counter() - begun)
    return min(took)


def main() -> None:
    """Time both forms in one run and print a line an order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinates", type=int, default=200_000)
    parser.add_argument("--horizons", type=int, default=20)
    asked = parser.parse_args()
    shape = (asked.coordinates, asked.horizons)
    random = np.random.default_rng(0)
    last = random.standard_normal(asked.coordinates).astype(np.float32)
    forecast, target = (
        last[:, None] + random.standard_normal(shape).astype(np.float32) for _ in range(2)
    )
    by_snapshot = np.asfortranarray
    for order, block in {
        "forecast by coordinate, target by snapshot": (forecast, by_snapshot(target)),
        "both by snapshot": (by_snapshot(forecast), by_snapshot(target)),
        "both by coordinate": (forecast, target),
    }.items():
        before, now = (seconds(add, *block, last) for add in (plain, RelSums(asked.horizons).add))
        each = 1e9 / forecast.size
        print(
            f"{order}: {before * each:.1f} ns a number in the plain form, {now * each:.1f} now: "
            f"{before / now:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
