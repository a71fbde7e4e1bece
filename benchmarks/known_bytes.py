"""What it costs to know that what is read is what the plan knows.

    python benchmarks/known_bytes.py

Prints what planning a data set of 12 files takes, and what looking at the files adds to each fit
and to each cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from weightcast.bench.plan.fits import KnownRun
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.scoring.known_bytes import KnownBytes

DATASET = "digits-mlp-adam"


def seconds(work: Callable[[], object], times: int) -> float:
    """Return the least time that the work took, of twenty looks."""
    took = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(times):
            work()
        took.append((time.perf_counter() - began) / times)
    return min(took)


def _looked_at(worker: KnownBytes, known: list[KnownRun]) -> None:
    worker.check_all(known)
    assert worker.untouched(known)


def main() -> None:
    runs = RunCache(None)
    began = time.perf_counter()
    lineages = runs.lineages(DATASET)
    print(f"planning, {len(lineages)} files: {time.perf_counter() - began:.3f} s")
    known = [
        KnownRun(DATASET, seed, run.fingerprint, runs.files(DATASET, seed))
        for seed, run in lineages.items()
    ]
    worker = KnownBytes(RunCache(None))
    for what, count in (("a cell", 1), ("a fit", 8)):
        took = seconds(partial(_looked_at, worker, known[:count]), 100)
        print(f"{what}, files looked at before and after ({count}): {1e6 * took:.0f} µs")


if __name__ == "__main__":
    main()
