"""Windows: a stretch of a run, or every k-th snapshot of it, as a trajectory of its own.

In a window, w_0 is the window's first snapshot; the run's own first snapshot stays to be had as
`Trajectory.initial`.
"""

from __future__ import annotations

from dataclasses import replace

from weightcast.datasets.errors import unknown
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory

#: Name → first snapshot, as a share of what the window's length leaves over.
WINDOWS = {"early": 0.0, "middle": 0.5, "late": 1.0}


class Window(Trajectory):
    """Some snapshots of a run, in order.

    Parameters
    ----------
    run : Trajectory
    snapshots : range
        Indices into the run's snapshots.
    """

    def __init__(self, run: Trajectory, snapshots: range) -> None:
        super().__init__(
            _WindowSource(run, snapshots),
            run.tensors,
            [int(run.steps[i]) for i in snapshots],
            _cut(run.meta, snapshots),
            fixed=run.fixed,
        )
        self._run = run
        self._snapshots = snapshots

    def initial(self) -> dict[str, Floats]:
        return self._run.initial()

    def state(self, index: int) -> State:
        return self._run.state(self._snapshots[index])


class _WindowSource:
    def __init__(self, run: Trajectory, snapshots: range) -> None:
        self._run = run
        self._snapshots = snapshots
        self.files = run.files

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        rows = [self._snapshots[snapshot]]
        self._run.read(tensor, rows, start, start + len(out), out=out[None])


def named_window(run: Trajectory, name: str) -> Trajectory:
    """Return the early, middle or late half of a run.

    Each holds half of the run's snapshots after its first: of 60, snapshots 0–30, 15–45 and 30–60.

    Raises
    ------
    InputError
        If the name is none of these.
    """
    if name not in WINDOWS:
        raise unknown("window", name, WINDOWS)
    last = run.n_snapshots - 1
    length = last // 2
    first = round(WINDOWS[name] * (last - length))
    return Window(run, range(first, first + length + 1))


def thinned(run: Trajectory, every: int, count: int) -> Trajectory:
    """Return ``count`` snapshots, every ``every``-th of a run: the same run at another cadence."""
    return Window(run, range(0, every * (count - 1) + 1, every))


def _cut(meta: Metadata, snapshots: range) -> Metadata:
    """Keep the metrics of the window's snapshots; learning rates stay those of all steps."""

    def pick(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(values[i] for i in snapshots) if values else ()

    return replace(
        meta,
        train_loss=pick(meta.train_loss),
        train_accuracy=pick(meta.train_accuracy),
        test_loss=pick(meta.test_loss),
        test_accuracy=pick(meta.test_accuracy),
    )
