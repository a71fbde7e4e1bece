"""The TrajectoryRecorder: records any PyTorch training loop in three added lines.

How many snapshots there will be is not known, so they are appended to a hidden recording file
beside the trajectory, ``.NAME.recording`` (`weightcast.datasets.files.recording_file`). `close`
copies it
into the stacked layout one snapshot at a time, gives that file its name, and removes the recording:
memory holds one snapshot, the disk for a moment two trajectories.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.recording_file import Measured, RecordingWriter, read_recording
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.trajectory import Floats, Metadata

if TYPE_CHECKING:
    import torch


class TrajectoryRecorder:
    """Record a model's trained floating-point parameters every so many steps.

    Parameters
    ----------
    model : torch.nn.Module
        On any device; its weights now are the first snapshot.
    path : str or Path
        The ``.safetensors`` file to write.
    every : int
        Steps between snapshots. Steps after the last whole interval are not recorded.
    dataset : str
        The name of the set that this run belongs to.
    seed : int
    optimizer : torch.optim.Optimizer, optional
        Gives the optimizer's name, its hyperparameters and each step's learning rate (of the
        first parameter group, as it is when the optimizer steps).
    first_step : int
        The step of the first snapshot, for runs that are resumed.
    overwrite : bool
        Replace a trajectory of that name, and drop a recording that a killed process left.

    Raises
    ------
    InputError
        If the model has nothing to record, or the path is taken.

    Notes
    -----
    As a context manager it closes at the end of the block. Left by an exception, or killed, it
    leaves the recording, which ``weightcast import`` finishes with the snapshots it holds.

    ``train_loss`` of a snapshot is the mean of the losses reported since the one before; of the
    first, the first loss reported, which was computed before any update.
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
        first_step: int = 0,
        overwrite: bool = False,
    ) -> None:
        from weightcast.datasets.networks.build import describe_tensors

        self.path = Path(path)
        if self.path.suffix != ".safetensors":
            raise InputError(f"{self.path} must end in .safetensors")
        if every < 1:
            raise InputError(f"every must be 1 or more, not {every}")
        self._model, self._every = model, every
        self._first_step = self.steps = first_step
        self._optimizer = optimizer
        self._tensors = describe_tensors(model)
        if not self._tensors:
            raise InputError("the model has no trained floating-point parameter to record")
        meta = Metadata(dataset, seed, source="recorded by TrajectoryRecorder")
        if optimizer is not None:
            meta = _with_optimizer(meta, optimizer)
        self._recording = self.path.with_name(f".{self.path.name}.recording")
        self._writer: RecordingWriter | None = self._create(meta, overwrite)
        self._hook: Any = None
        self._rate: float | None = None
        if optimizer is not None and hasattr(optimizer, "register_step_pre_hook"):
            # Before the step: a scheduler may move the rate before anyone else looks at it.
            self._hook = optimizer.register_step_pre_hook(self._note_rate)
        self._loss: Any = None  # the sum since the last snapshot
        self._first_loss: Any = None
        self._losses = 0
        self._rates: list[list[float]] = []
        self._seconds = 0.0
        self._snapshot()
        self._resumed = time.perf_counter()

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
        else:
            self.abandon()
            error.add_note(f"what was recorded can be saved with: {self._salvage}")

    def step(self, train_loss: float | torch.Tensor | None = None) -> None:
        """Count one optimizer step, after it was made, and take a snapshot when one is due.

        Parameters
        ----------
        train_loss : float or scalar tensor, optional
            The step's loss. A tensor is added up on its device, without waiting for it.
        """
        if self._writer is None:
            raise ValueError("the recorder is closed")
        self._seconds += time.perf_counter() - self._resumed
        self.steps += 1
        if self._optimizer is not None:
            self._add_rate(self._optimizer)
        if train_loss is not None:
            self._add_loss(train_loss)
        if (self.steps - self._first_step) % self._every == 0:
            self._snapshot()
        self._resumed = time.perf_counter()

    def close(self) -> None:
        """Write the trajectory and remove the recording; a second call does nothing."""
        if self._writer is None:
            return
        self.abandon()
        write_stacked(read_recording(self._recording), self.path)
        self._recording.unlink()

    def abandon(self) -> None:
        """Stop without writing the trajectory; the recording stays, to be saved or removed."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    @property
    def _salvage(self) -> str:
        return f"weightcast import {self._recording} --out {self.path}"

    def _create(self, meta: Metadata, overwrite: bool) -> RecordingWriter:
        if overwrite:
            self._recording.unlink(missing_ok=True)
        elif self.path.exists():
            raise InputError(f"{self.path} exists; remove it, or give overwrite=True")
        elif self._recording.exists():
            raise InputError(
                f"{self._recording} is left from a run that was killed (or is still recording); "
                f"save it with: {self._salvage}, remove it, or give overwrite=True"
            )
        try:
            return RecordingWriter(self._recording, self._tensors, meta)
        except OSError as error:
            raise InputError(f"{self._recording} cannot be written: {error.strerror}") from None

    def _note_rate(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._rate = float(optimizer.param_groups[0]["lr"])

    def _add_rate(self, optimizer: torch.optim.Optimizer) -> None:
        rate = float(optimizer.param_groups[0]["lr"]) if self._rate is None else self._rate
        if self._rates and self._rates[-1][0] == rate:
            self._rates[-1][1] += 1
        else:
            self._rates.append([rate, 1])

    def _add_loss(self, loss: float | torch.Tensor) -> None:
        value: Any = loss if isinstance(loss, int | float) else loss.detach()
        if self._losses == 0:
            self._first_loss = self._loss = value
        else:
            self._loss = self._loss + value
        self._losses += 1

    def _start_interval(self) -> None:
        self._loss = self._first_loss = None
        self._losses = 0
        self._rates = []
        self._seconds = 0.0

    def _snapshot(self) -> None:
        assert self._writer is not None
        measured = Measured(
            self.steps,
            float(self._loss) / self._losses if self._losses else None,
            float(self._first_loss) if self._losses else None,
            self._rates,
            self._seconds,
        )
        self._writer.append(measured, self._weights())
        self._start_interval()

    def _weights(self) -> Iterator[Floats]:
        """Copy the parameters to the CPU, one at a time."""
        import torch

        parameters = dict(self._model.named_parameters())
        for info in self._tensors:
            parameter = parameters.get(info.name)
            if parameter is None or tuple(parameter.shape) != info.shape:
                found = "gone" if parameter is None else f"{list(parameter.shape)}"
                raise InputError(
                    f"parameter {info.name} was {list(info.shape)} at the first snapshot and is "
                    f"{found} at step {self.steps}; a trajectory needs a network that stays"
                )
            yield parameter.detach().to("cpu", torch.float32).numpy()


def _with_optimizer(meta: Metadata, optimizer: torch.optim.Optimizer) -> Metadata:
    """Add an optimizer's name and those of its settings that JSON can hold."""
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in optimizer.param_groups[0].items()
        if key not in {"params", "lr", "initial_lr"}
        and isinstance(value, bool | int | float | str | tuple)
    }
    return replace(meta, optimizer=type(optimizer).__name__.lower(), hyperparameters=settings)
