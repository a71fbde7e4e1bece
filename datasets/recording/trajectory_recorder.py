"""The TrajectoryRecorder: records any PyTorch training loop in three added lines.

How many snapshots there will be is not known, so they are appended to a hidden recording file
beside the trajectory, ``.NAME.recording`` (`weightcast.datasets.recording.file`). `close`
copies it into the stacked layout one snapshot at a time, gives that file its name, and removes the
recording: memory holds one snapshot, the disk for a moment two trajectories.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.stacked import read_stacked, write_stacked
from weightcast.datasets.numbers import one_number, whole_number
from weightcast.datasets.recording.claim import claim, give_up, recording_of, salvage
from weightcast.datasets.recording.file import RecordingWriter
from weightcast.datasets.recording.interval import Interval, RateNotes
from weightcast.datasets.recording.reader import read_recording, scan_recording
from weightcast.datasets.trajectory import Metadata, Trajectory

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class TrajectoryRecorder:
    """Record a model's trained floating-point parameters every so many steps.

    Parameters
    ----------
    model : torch.nn.Module
        On any device; its weights now are the first snapshot. Names are those of the bare network,
        without what ``torch.compile`` or a data-parallel wrapper puts before them.
    path : str or Path
        The ``.safetensors`` file to write; a relative one is one of the working directory of now.
    every : int
        Steps between snapshots. Steps after the last whole interval are not recorded.
    dataset : str
        The name of the set that this run belongs to.
    seed : int
    optimizer : torch.optim.Optimizer, optional
        Gives the optimizer's name, its hyperparameters and each step's learning rate (of the
        first parameter group, as it is when the optimizer steps).
    first_step : int, optional
        The step that the model is at: 0 by default, and where a recording is gone on with that of
        its last snapshot.
    overwrite : bool
        Replace a trajectory of that name, drop a recording that a killed process left, and take
        over from another recorder of this process.
    frozen : bool
        Keep the parameters that are not trained too, once, so that a forecast is a whole network.
        Without, a large frozen network costs nothing, and forecasts load with ``strict=False``.
    resume : bool
        Go on with the recording that a killed process left, where there is one; begin one else.

    Attributes
    ----------
    path : Path
    model : torch.nn.Module
        As it was given.
    steps : int
        The step that the model is at.
    snapshots : int
        How many are recorded.

    Raises
    ------
    InputError
        If the model has nothing to record, the path is taken, or what was left is not of this run.

    Notes
    -----
    As a context manager it closes at the end of the block. Left by an exception, or killed, it
    leaves the recording: ``resume=True`` goes on with it, and ``weightcast import`` finishes it
    with the snapshots it holds.

    What is gone on with must have the names and shapes of this model, its data set, seed, optimizer
    and cadence, and at a step that was recorded its very weights. Snapshots of steps after
    ``first_step`` are dropped and recorded again, which is logged. Where training goes on between
    two snapshots, the loss of the next is the mean of those after that, and learning rates that
    nobody knows leave the run without any.

    ``train_loss`` of a snapshot is the mean of the losses reported since the one before; of the
    first, the first loss reported, which was computed before any update.

    All persistent buffers, batch-norm statistics among them, are recorded beside the parameters.
    The parameters followed are those that are trained at the start. One that is frozen later is
    still followed; one that is unfrozen, added, removed, reshaped, tied or untied later is an
    error at the next snapshot, and what was recorded stays.

    A snapshot with NaN or infinity among its weights is left out, which is logged at once and
    again at the end; the next one whose weights are finite is recorded again.

    Numbers may be Python's, numpy's or tensors of one element. In a forked process, as a loader's
    workers are, a recorder does nothing.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        path: str | Path,
        *,
        every: int,
        dataset: str = "mine",
        seed: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
        first_step: int | None = None,
        overwrite: bool = False,
        frozen: bool = True,
        resume: bool = False,
    ) -> None:
        from weightcast.datasets.recording.snapshots import Snapshots

        if overwrite and resume:
            raise InputError(
                "overwrite=True drops what was left and resume=True goes on with it; give one"
            )
        self.path, self.model = Path(os.path.abspath(path)), model
        self.process = os.getpid()
        self._every = whole_number("every", every, least=1)
        asked = None if first_step is None else whole_number("first_step", first_step, least=0)
        self._first_step = self.steps = asked or 0
        self.snapshots, self._latest, self._jumped = 0, -1, False
        self._rates = RateNotes(optimizer)
        self._snapshots = Snapshots(model, frozen=frozen)
        meta = Metadata(
            str(dataset),
            whole_number("seed", seed),
            source="recorded by TrajectoryRecorder",
            **self._rates.settings(),
        )
        self._writer: RecordingWriter | None = None
        self._written = self._closed = False
        self._lost = False  # whether the last snapshot was left out
        self._interval = Interval()
        self._start(meta, asked, overwrite, resume)
        if self._snapshots.left_out:
            _log.warning("%s: %s", self.path, self._snapshots.left_out)
        self._interval.resume()

    def __enter__(self) -> TrajectoryRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._here():
            self.abandon()
            error.add_note(f"what was recorded can be saved with: {salvage(self.path)}")

    def step(self, train_loss: float | torch.Tensor | None = None) -> None:
        """Count one optimizer step, after it was made, and take a snapshot when one is due.

        Parameters
        ----------
        train_loss : float or scalar tensor, optional
            The step's loss. A tensor is added up on its device, without waiting for it.

        Raises
        ------
        InputError
            If the loss is not one number, and the step is not counted; if the network is not what
            it was, or the snapshot cannot be written, and what was recorded before stays.
        """
        if not self._here():
            return
        if self._writer is None:
            raise ValueError(f"the recorder is closed, or another one took over {self.path}")
        self._interval.pause()
        try:
            if train_loss is not None:
                self._interval.add_loss(one_number("train_loss", train_loss))
            self.steps += 1
            if self._rates.known:
                self._interval.add_rate(self._rates.of_step())
            if (self.steps - self._first_step) % self._every == 0:
                self._snapshot()
        finally:
            self._interval.resume()

    def trajectory(self) -> Trajectory:
        """Return what is recorded so far, up to the last snapshot; after `close`, the whole run.

        It is read from the file, so it costs no memory, and does not grow as recording goes on.

        Raises
        ------
        InputError
            If the recording is no longer there.
        """
        if self._closed:
            return read_stacked(self.path)
        left = scan_recording(recording_of(self.path))
        known = left.trajectory()
        if not self._jumped:
            return known
        return left.trajectory(jumps=(*known.meta.jumps, self._latest))

    @property
    def at_snapshot(self) -> bool:
        """Whether the last snapshot is of the step that the model is at."""
        return self._latest == self.steps

    def jumped(self) -> None:
        """Note that something else than the optimizer moved the weights after the last snapshot.

        A forecast that was jumped to, say: the run's metadata have the step, and what is forecast
        from later snapshots is not drawn across it.
        """
        if self._here():
            self._jumped = True

    def forecast(self, method: str, horizon: int, **options: Any) -> dict[str, torch.Tensor]:
        """Forecast the weights from the last snapshot; recording goes on as it was.

        Parameters
        ----------
        method : str
            A registered name, e.g. ``"damped-line"``.
        horizon : int
            How many snapshots ahead.
        **options
            As for `weightcast.bench.forecast`, which this calls with the recorder as its run.

        Returns
        -------
        dict of str to Tensor
            For ``load_state_dict``, with what is known of the forecast as attributes.
        """
        # Rooms import downwards only, and forecasting is above this one. It is looked up by name
        # when somebody asks for it; nothing here depends on what it is.
        forecast = resolve_name("weightcast.bench:forecast")
        found: dict[str, torch.Tensor] = forecast(self, method, horizon, **options)
        return found

    def close(self) -> None:
        """Write the trajectory and remove the recording; a second call does nothing.

        Raises
        ------
        InputError
            If the trajectory cannot be written; the recording stays, and so may be a second call.
        """
        if not self._here() or self._written:
            return
        self._stop()
        recording = recording_of(self.path)
        try:
            run = read_recording(recording)
            write_stacked(run, self.path)
        except (InputError, OSError) as error:
            said = str(error) if isinstance(error, InputError) else error.strerror
            raise InputError(
                f"{self.path} was not written: {said}; close again, or: {salvage(self.path)}"
            ) from error
        recording.unlink(missing_ok=True)
        self._written = self._closed = True
        if run.meta.not_finite_from is not None:
            _log.warning(
                "%s: weights had NaN or infinity from step %d on; %d snapshots are recorded, to "
                "step %d",
                self.path,
                run.meta.not_finite_from,
                run.n_snapshots,
                run.steps[-1],
            )

    def abandon(self) -> None:
        """Stop without writing the trajectory; the recording stays, to be saved or removed."""
        if self._here():
            self._stop()
            self._written = True

    def _here(self) -> bool:
        return os.getpid() == self.process

    def _start(self, meta: Metadata, asked: int | None, overwrite: bool, resume: bool) -> None:
        """Write the header and the first snapshot, or leave nothing behind; or go on."""
        from weightcast.datasets.recording.snapshots import NotFinite

        self._writer, left = claim(self.path, self, overwrite=overwrite, resume=resume)
        try:
            with _saying(f"{self.path} cannot be recorded"):
                if left:
                    self._go_on(meta, asked)
                else:
                    self._writer.begin(self._snapshots.layout, meta, self._snapshots.fixed())
                    self._append()
            self._rates.begin()
        except BaseException as error:
            self._stop()
            if not left:
                recording_of(self.path).unlink(missing_ok=True)
            if isinstance(error, NotFinite):
                raise InputError(f"there is nothing to record: {error} at the start") from None
            raise

    def _go_on(self, meta: Metadata, asked: int | None) -> None:
        """Go on with what is there, which is left as it was where it is of another run."""
        from weightcast.datasets.recording.resuming import Run, go_on

        assert self._writer is not None
        recording = recording_of(self.path)
        left = scan_recording(recording)
        run = Run(
            path=recording,
            layout=self._snapshots.layout,
            meta=meta,
            every=self._every,
            take=lambda: self._snapshots.take(self.steps),
            fixed=self._snapshots.fixed,
        )
        found = go_on(left, run, asked)
        self._writer.go_on(found.end, noted=left.not_finite_from is not None)
        self._first_step, self.steps = found.first_step, found.step
        self.snapshots, self._latest = found.snapshots, left.measured[found.snapshots - 1].step
        if self._rates.known:
            for rate, count in found.rates:
                self._interval.add_rate(rate, count)
        if found.due:
            self._append()

    def _stop(self) -> None:
        """Let go of the file, the path and the optimizer."""
        self._rates.end()
        give_up(self.path)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _snapshot(self) -> None:
        from weightcast.datasets.recording.snapshots import NotFinite

        kept = f"what was recorded before can be saved with: {salvage(self.path)}"
        try:
            with _saying(f"the snapshot of step {self.steps} was not recorded", kept):
                self._append()
        except NotFinite as error:
            self._leave_out(error)
        else:
            self._lost = False

    def _append(self) -> None:
        assert self._writer is not None
        measured = self._interval.measured(self.steps)._replace(jumped=self._jumped)
        self._writer.append(measured, self._snapshots.take(self.steps))
        self._interval.start_anew()
        self.snapshots, self._latest, self._jumped = self.snapshots + 1, self.steps, False

    def _leave_out(self, error: InputError) -> None:
        if self._lost:
            return
        self._lost = True
        assert self._writer is not None
        self._writer.note_not_finite(self.steps)
        _log.warning(
            "%s at step %d: snapshots from here on are left out of %s until all weights are "
            "finite again; those before are kept",
            error,
            self.steps,
            self.path,
        )


@contextmanager
def _saying(what: str, more: str = "") -> Iterator[None]:
    """Turn what a disk refuses into one line."""
    try:
        yield
    except OSError as error:
        said = f"{what}: {error.strerror or error}"
        raise InputError(f"{said}; {more}" if more else said) from None
