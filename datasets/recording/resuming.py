"""Going on with a recording that was left: whether it is of this run, and where it is to go on.

Training goes on from a checkpoint, which is seldom of the very step of the last snapshot. Snapshots
after it are of steps that are trained again, so they are dropped and recorded again. Where the
steps meet, the network must have the weights that were recorded there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.recording.file import Layout, Measured
from weightcast.datasets.recording.reader import Scanned
from weightcast.datasets.state import StateInfo
from weightcast.datasets.trajectory import Metadata

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What is to go on, as it is now.

    Attributes
    ----------
    path : Path
        The recording.
    layout : Layout
    meta : Metadata
    every : int
        Steps between snapshots.
    take : callable
        Copies its weights, tensor by tensor, then its state.
    fixed : callable
        Copies what no step changes.
    """

    path: Path
    layout: Layout
    meta: Metadata
    every: int
    take: Callable[[], Iterator[NDArray[Any]]]
    fixed: Callable[[], Iterator[NDArray[Any]]]


@dataclass(frozen=True)
class GoOn:
    """Where a recording goes on.

    Attributes
    ----------
    step : int
        The step that the network is at.
    first_step : int
        That of the first snapshot: others are so many steps times a whole number after it.
    snapshots : int
        How many are kept.
    end : int
        Bytes that they take.
    rates : list of [float or None, int]
        Learning rates of the steps since the last snapshot that is kept; None where not known.
    due : bool
        Whether the network now is a snapshot that has yet to be taken.
    """

    step: int
    first_step: int
    snapshots: int
    end: int
    rates: list[tuple[float | None, int]]
    due: bool


def go_on(left: Scanned, run: Run, step: int | None) -> GoOn:
    """Find where a recording goes on, and hold it to being of this run.

    Parameters
    ----------
    left : Scanned
    run : Run
    step : int or None
        The step that the network is at; None for that of the last snapshot.

    Raises
    ------
    InputError
        If it is of another run, or training does not go on from where it ends.
    """
    _check_same(left, run)
    first, last = left.measured[0].step, left.measured[-1].step
    at = last if step is None else step
    if at > last + run.every:
        raise InputError(
            f"{run.path} ends with step {last}, but training goes on from step {at}: the snapshot "
            f"of step {last + run.every} would be missing; go on from a checkpoint of that step "
            "at the latest, or give overwrite=True to record anew"
        )
    if at <= first < last or at < first:
        raise InputError(
            f"{run.path} holds steps {first} to {last}, but training begins at step {at}: all of "
            "it would be recorded again; load the checkpoint that training is to go on from and "
            "give its step as first_step, or give overwrite=True to record anew"
        )
    kept = max(index for index, each in enumerate(left.measured) if each.step <= at)
    if left.measured[kept].step == at:
        _check_weights(left, kept, run, named=step is not None)
    dropped = left.measured[kept + 1 :]
    if dropped:
        _log.warning(
            "%s: training goes on from step %d, so the snapshots of step %d to %d are recorded "
            "again",
            run.path,
            at,
            dropped[0].step,
            dropped[-1].step,
        )
    return GoOn(
        step=at,
        first_step=first,
        snapshots=kept + 1,
        end=left.positions[kept] + left.layout.snapshot_bytes,
        rates=_rates_until(at - left.measured[kept].step, dropped),
        due=at > left.measured[kept].step and (at - first) % run.every == 0,
    )


def _check_same(left: Scanned, run: Run) -> None:
    """Refuse a recording of another network, seed, data set, optimizer or cadence."""
    mend = "name another file, or give overwrite=True to record anew"
    theirs, mine = left.meta, run.meta
    for what, before, now in (
        ("data set", theirs.dataset, mine.dataset),
        ("seed", theirs.seed, mine.seed),
        ("optimizer", theirs.optimizer, mine.optimizer),
    ):
        if before != now:
            raise InputError(f"{run.path} is of {what} {before}, not {now}; {mend}")
    if change := _change(left.layout, run.layout):
        raise InputError(f"{run.path} is of another network: {change}; {mend}")
    steps = [each.step for each in left.measured]
    spacing = int(np.diff(steps).min()) if len(steps) > 1 else run.every
    # Between two of them some may have been left out, having had NaN or infinity.
    holes = left.not_finite_from is not None and spacing % run.every == 0
    if spacing != run.every and not holes:
        raise InputError(
            f"{run.path} has a snapshot every {spacing} steps, not every {run.every}; give "
            f"every={spacing}, or overwrite=True to record anew"
        )
    for key in sorted(theirs.hyperparameters.keys() | mine.hyperparameters.keys()):
        had, has = (each.hyperparameters.get(key) for each in (theirs, mine))
        if had != has:  # schedules move some, so it may be right
            _log.warning("%s: the optimizer's %s was %s and is %s", run.path, key, had, has)
    for info, found in zip(run.layout.fixed, run.fixed(), strict=True):
        source = left.trajectory().fixed.read(info)
        if source.tobytes() != np.ascontiguousarray(found).tobytes():
            raise InputError(f"{run.path}: {info.name}, which is not trained, differs; {mend}")


def _change(left: Layout, now: Layout) -> str:
    """Say how a network differs from the one recorded; nothing where it does not."""
    said: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("parameter", _shapes(left.tensors), _shapes(now.tensors)),
        ("buffer", _types(left.states), _types(now.states)),
        ("frozen parameter", _types(left.fixed), _types(now.fixed)),
        ("tied name", left.aliases, now.aliases),
    ]
    for what, before, after in said:
        for name in [*before, *after]:
            was, found = before.get(name, "not there"), after.get(name, "not there")
            if was != found:
                return f"{what} {name} was {was} and is {found}"
        if list(before) != list(after):
            return f"its {what}s are in another order"
    return ""


def _shapes(tensors: Any) -> dict[str, str]:
    return {info.name: str(list(info.shape)) for info in tensors}


def _types(infos: tuple[StateInfo, ...]) -> dict[str, str]:
    return {info.name: f"{info.dtype} {list(info.shape)}" for info in infos}


def _check_weights(left: Scanned, index: int, run: Run, *, named: bool) -> None:
    """Hold the network's weights to those of a snapshot."""
    recorded = left.trajectory()
    step = left.measured[index].step
    for info, values in zip(recorded.tensors, run.take(), strict=False):
        before = recorded.read(info, [index])[0]
        apart = np.abs(values.reshape(-1) - before)
        if apart.size and (values.reshape(-1) != before).any():
            which = f"step {step}" if named else f"its last snapshot, step {step}"
            mend = (
                f"load the checkpoint of step {step}"
                if named
                else "load its checkpoint, or give first_step, the step that they are of"
            )
            raise InputError(
                f"{run.path} has other weights at {which}: {info.name} differs by up to "
                f"{float(apart.max()):.3g}; {mend}, or give overwrite=True to record anew"
            )


def _rates_until(steps: int, dropped: list[Measured]) -> list[tuple[float | None, int]]:
    """Return the rates of the steps after a snapshot, of what was recorded after it."""
    rates: list[tuple[float | None, int]] = []
    known = dropped[0].learning_rates if dropped else []
    for rate, count in known:
        taken = min(steps, int(count))
        if taken:
            rates.append((rate, taken))
        steps -= taken
    return [*rates, (None, steps)] if steps else rates
