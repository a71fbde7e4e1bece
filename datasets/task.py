"""What a forecaster is asked: from these snapshots, forecast those."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import (
    BLOCK_BYTES,
    Floats,
    TensorInfo,
    Trajectory,
    block_ranges,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pair:
    """A block of coordinates as training material; unpacks into ``context, target``.

    Attributes
    ----------
    context : ndarray, shape (c, n + 1)
        Snapshots w_0..w_n, a row a coordinate; or the columns asked for.
    target : ndarray, shape (c, m)
        The snapshots to forecast.
    tensor : TensorInfo
    start : int
        The first row's place in the flattened tensor.

    Both arrays live in buffers that the next block reuses: copy what has to outlive the loop.
    """

    context: Floats
    target: Floats
    tensor: TensorInfo
    start: int

    def __iter__(self) -> Iterator[Floats]:
        yield self.context
        yield self.target


@dataclass(frozen=True)
class ForecastTask:
    """One data set at one context length.

    Attributes
    ----------
    dataset : str
        Withheld from a method in a run of the benchmark.
    context : int
        n: the method sees w_0..w_n.
    horizons : ndarray, shape (m,), float32
        Snapshots after the origin, 1, 2, ..., m.
    context_steps : ndarray, shape (n + 1,), int64
        Optimizer steps of w_0..w_n.
    horizon_steps : ndarray, shape (m,), int64
        Optimizer steps of the snapshots to forecast.
    learning_rates : ndarray, float64
        One entry an optimizer step, to the last horizon.
    optimizer : str
    hyperparameters : dict
        The optimizer's.
    seed : int
        Seeds whatever a method draws at random.
    tensor : TensorInfo or None
        Set while a block of that tensor is handled.
    rows : ndarray, shape (c,), int64, or None
        With it, the places of the block's coordinates in the flattened tensor, ascending.
    """

    dataset: str
    context: int
    horizons: NDArray[np.float32]
    context_steps: NDArray[np.int64]
    horizon_steps: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    optimizer: str = "unknown"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    tensor: TensorInfo | None = None
    rows: NDArray[np.int64] | None = None
    block_bytes: int = BLOCK_BYTES

    def for_tensor(self, tensor: TensorInfo, rows: NDArray[np.int64] | None = None) -> ForecastTask:
        """Return the task as it stands for one tensor's block."""
        return replace(self, tensor=tensor, rows=rows)

    def pairs(
        self, run: Trajectory, columns: Sequence[int] | None = None, tensor: str | None = None
    ) -> Iterator[Pair]:
        """Stream a training or validation run as (context, target) blocks.

        Parameters
        ----------
        run : Trajectory
        columns : sequence of int, optional
            Only these snapshots of the context are read, and make up its columns; all by default.
        tensor : str, optional
            Only the tensor of this name; all by default.

        Yields
        ------
        Pair
            ``context`` (c, n + 1) and ``target`` (c, m), valid until the next one.
        """
        for read in self._blocks(run, columns, tensor, 1):
            yield read()

    def map_pairs(
        self,
        work: Callable[[Pair], Result],
        run: Trajectory,
        columns: Sequence[int] | None = None,
        tensor: str | None = None,
    ) -> Iterator[Result]:
        """Yield ``work(pair)`` for every block that `pairs` gives, in the blocks' order.

        A run of many blocks is worked on by two threads, which take turns at reading;
        ``OMP_NUM_THREADS=1`` in the environment keeps to one. The results are the same either way.

        Parameters
        ----------
        work : callable
            Runs in either thread, and keeps nothing of the pair.
        run, columns, tensor
            As in `pairs`.
        """
        snapshots = len(self.horizons) + (self.context + 1 if columns is None else len(columns))
        small = 4 * snapshots * run.n_coordinates <= self.block_bytes
        threads = 1 if small or os.environ.get("OMP_NUM_THREADS") == "1" else 2
        # Small blocks are still in the processor's cache when they are worked on.
        task = replace(self, block_bytes=min(self.block_bytes, 4 * 2**20))
        blocks = task._blocks(run, columns, tensor, threads)
        if threads == 1:
            yield from (work(read()) for read in blocks)
            return
        from threadpoolctl import threadpool_limits

        turn = Lock()  # not all sources can be read by two threads at a time

        def read_and_work(read: Callable[[], Pair]) -> Result:
            with turn:
                pair = read()
            return work(pair)

        # BLAS's own threads would stand in the way of these.
        with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            running: deque[Future[Result]] = deque()
            for read in blocks:
                if len(running) == threads:  # a block's buffer is free when its work is done
                    yield running.popleft().result()
                running.append(pool.submit(read_and_work, read))
            while running:
                yield running.popleft().result()

    def _blocks(
        self, run: Trajectory, columns: Sequence[int] | None, tensor: str | None, buffers: int
    ) -> list[Callable[[], Pair]]:
        """List how to read each block; every so many blocks share one of the buffers."""
        seen = list(range(self.context + 1) if columns is None else columns)
        rows = [*seen, *range(self.context + 1, self.context + 1 + len(self.horizons))]
        infos = [info for info in run.tensors if tensor in (None, info.name)]
        ranges = list(block_ranges(infos, len(rows), self.block_bytes))
        widest = max((stop - start for _, start, stop in ranges), default=0)
        rooms = [np.empty(len(rows) * widest, np.float32) for _ in range(buffers)]

        def read(info: TensorInfo, start: int, stop: int, room: Floats) -> Pair:
            out = room[: len(rows) * (stop - start)].reshape(len(rows), -1)
            values = run.read(info, rows, start, stop, out=out)
            return Pair(values[: len(seen)].T, values[len(seen) :].T, info, start)

        return [partial(read, *block, rooms[turn % buffers]) for turn, block in enumerate(ranges)]


def make_task(
    run: Trajectory, context: int, *, seed: int = 0, block_bytes: int = BLOCK_BYTES
) -> ForecastTask:
    """Build the task that forecasts every snapshot after w_n of runs like this one.

    Raises
    ------
    InputError
        If the run has no snapshot after the origin.
    """
    if not 1 <= context <= run.n_snapshots - 2:
        raise InputError(
            f"context {context} does not fit {run.meta.dataset}: its runs have "
            f"{run.n_snapshots} snapshots, so a context is 1 to {run.n_snapshots - 2}"
        )
    horizons = run.n_snapshots - 1 - context
    return ForecastTask(
        dataset=run.meta.dataset,
        context=context,
        horizons=np.arange(1, horizons + 1, dtype=np.float32),
        context_steps=run.steps[: context + 1].copy(),
        horizon_steps=run.steps[context + 1 :].copy(),
        learning_rates=np.asarray(run.meta.learning_rates[: int(run.steps[-1])], dtype=np.float64),
        optimizer=run.meta.optimizer,
        hyperparameters=dict(run.meta.hyperparameters),
        seed=seed,
        block_bytes=block_bytes,
    )
