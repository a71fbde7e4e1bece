"""What it costs that no process works for two methods: cells a second, with and without it.

Cheap methods on small data sets, where starting a process weighs most: all fits of a suite are
worked on twice, once as `weightcast run` does and once in processes that go on whatever the method.
Exit status 1 where isolation costs more than `LIMIT` seconds a unit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from weightcast.bench.engine.environment import describe_machine
from weightcast.bench.engine.events import CellDone
from weightcast.bench.engine.local import run_here
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.work import Work, in_turn
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.scoring.unit import Unit

SUITE = """
name = "isolation"
datasets = ["digits-mlp-sgd", "logistic-sgd", "linreg-gd"]
methods = ["last-value", "last-two-line", "ols-line", "damped-line", "rre", "lfd2-ols", "ar1"]
contexts = [10]
rotations = 4
tiers = {tiers}
"""
#: Seconds that a unit may take longer, the mean over all of them.
LIMIT = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ok = True
    for tiers in ('["weights"]', '["weights", "function"]'):
        units = _units(tiers)
        taken: dict[bool, float] = {}
        for _ in range(options.rounds):
            for apart in (True, False):
                seconds, cells = _run(units, options.jobs, apart)
                taken[apart] = min(seconds, taken.get(apart, seconds))
        costs = options.jobs * (taken[True] - taken[False]) / len(units)
        print(
            f"tiers {tiers}: {len(units)} units, {cells} cells; {cells / taken[True]:.1f} cells/s "
            f"apart, {cells / taken[False]:.1f} cells/s together, {1e3 * costs:.0f} ms a unit "
            f"(limit {1e3 * LIMIT:.0f})"
        )
        ok &= costs <= LIMIT
    return 0 if ok else 1


def _units(tiers: str) -> list[Work]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.toml"
        path.write_text(SUITE.format(tiers=tiers), encoding="utf-8")
        plan = make_plan(load_suite(str(path)).resolve(), RunCache(None))
    return in_turn([Unit(fit, fit.split.test) for fit in plan])


def _run(units: list[Work], jobs: int, apart: bool) -> tuple[float, int]:
    """Return the seconds that all units take, and how many cells came back."""
    serve = Worker.serve
    if not apart:
        Worker.serve = lambda worker, method: None  # type: ignore[method-assign]
    try:
        start, cells = time.perf_counter(), 0
        site = Site(describe_machine(), jobs)
        for events in run_here(units, Setup(), Limits(600.0, 4 * 10**9), site, threading.Event()):
            cells += sum(isinstance(event, CellDone) for event in events)
        return time.perf_counter() - start, cells
    finally:
        Worker.serve = serve  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
