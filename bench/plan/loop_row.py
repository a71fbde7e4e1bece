"""The row of one training run of the loop tier, as it is stored and scored."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, final

from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun


@final
class Jump(TypedDict):
    """One jump: train losses before and after it (None where not finite), and what it took."""

    step: int
    before: float | None
    after: float | None
    accepted: bool
    seconds: float
    forwards: int


@final
class Sync(TypedDict):
    """All syncs of Lookahead as one: steps from one to the next, and the median seconds of one."""

    step: int
    every: int
    seconds: float


@final
class Reading(TypedDict):
    """All forecasts of a read-out as one: their number, and the median seconds of one."""

    step: int
    reads: int
    seconds: float


class LoopRow(TypedDict):
    """What is known of a run; a run without a result has measured nothing.

    ``length``, ``horizon``, ``momentum`` and ``pool_rate`` are as in `loop_settings.LoopRun`.
    ``again`` marks what is not stored, so that the next run tries it again.
    """

    key: str
    suite: str
    dataset: str
    method: str
    params: str
    accept: str
    use: str
    optimizer: str
    schedule: str
    learning_rate: float
    pool_rate: float
    length: float
    horizon: int
    momentum: float
    seed: int
    seed_role: str
    status: str
    reason: str
    traceback: str
    measured: dict[str, list[Any]]
    jumps: list[Jump | Sync | Reading]
    step_seconds: float | None
    forward_seconds: float | None
    fit_seconds: float
    fit_steps: int
    seconds: float | None
    jobs: int
    threads: int
    machine: str
    again: NotRequired[bool]


def loop_row(group: LoopGroup, run: LoopRun) -> LoopRow:
    """Make the row of a run that nothing is known of yet."""
    return {
        "key": run.key,
        "suite": group.suite,
        "dataset": group.dataset,
        "method": group.method,
        "params": group.params,
        "accept": group.accept,
        "use": group.use,
        "optimizer": group.optimizer,
        "schedule": group.schedule,
        "learning_rate": run.learning_rate,
        "pool_rate": run.pool_rate or run.learning_rate,
        "length": run.length,
        "horizon": run.horizon,
        "momentum": run.momentum,
        "seed": run.seed,
        "seed_role": run.role,
        "status": "ok",
        "reason": "",
        "traceback": "",
        "measured": {},
        "jumps": [],
        "step_seconds": None,
        "forward_seconds": None,
        "fit_seconds": 0.0,
        "fit_steps": 0,
        "seconds": None,
        "jobs": 1,
        "threads": 1,
        "machine": "{}",
    }
