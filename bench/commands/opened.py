"""Opening a run that somebody named: a trajectory, or a folder of checkpoints as it is."""

from __future__ import annotations

import sys
from pathlib import Path

from weightcast.bench.commands.fit_runs import NamedRun
from weightcast.datasets import Trajectory, open_trajectory
from weightcast.datasets.files.checkpoints import MANIFEST
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.trajectory import Floats, State, TensorInfo

#: Runs of so many bytes are copied into memory as they are read.
_COPIED_BYTES = 2**26


def open_run(path: Path) -> NamedRun:
    """Open a run; checkpoints that nobody imported are taken as `weightcast import` takes them.

    Nothing is written. What is guessed is said on standard error, in one line.

    Raises
    ------
    InputError
        If there is no run, or no sure one.
    """
    with foreign(path, "a trajectory", "name another file"):
        loose = path.is_dir() and not (path / MANIFEST).is_file()
    if not loose:
        return NamedRun(path, open_trajectory(path))
    from weightcast.datasets.importing.run import gather_run

    found = gather_run(path)
    print(f"note: {path} is read as it is: {'; '.join(found.notes)}", file=sys.stderr)
    return NamedRun(path, _copied(found.run))


def _copied(run: Trajectory) -> Trajectory:
    """Return a small run whose snapshots are read once: opening a file of torch.save takes long."""
    if 4 * run.n_coordinates * run.n_snapshots > _COPIED_BYTES:
        return run
    steps = run.steps.tolist()
    return Trajectory(_Copies(run), run.tensors, steps, run.meta, _States(run), run.fixed)


class _Copies:
    """Snapshots of a run, each copied whole when it is first read."""

    def __init__(self, run: Trajectory) -> None:
        self._run = run
        self.files = run.files
        self.checkpoint = run.checkpoint
        self._there: dict[int, dict[str, Floats]] = {}

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        if snapshot not in self._there:
            self._there[snapshot] = {
                info.name: self._run.read(info, [snapshot])[0] for info in self._run.tensors
            }
        out[:] = self._there[snapshot][tensor.name][start : start + len(out)]


class _States:
    """What lies beside the weights, read where it is."""

    def __init__(self, run: Trajectory) -> None:
        self._run = run

    def read_state(self, snapshot: int) -> State:
        return self._run.state(snapshot)
