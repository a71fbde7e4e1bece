"""A callback for `transformers.Trainer` that records its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from weightcast.datasets.recording.trajectory_recorder import TrajectoryRecorder


class TrajectoryCallback(TrainerCallback):
    """Record a `transformers.Trainer` run: ``Trainer(..., callbacks=[TrajectoryCallback(...)])``.

    Parameters
    ----------
    path, every, dataset, overwrite, frozen, resume
        As for `TrajectoryRecorder`.
    seed : int, optional
        By default the training arguments' seed.

    Notes
    -----
    A snapshot's loss is the mean of what the Trainer logged since the one before; let
    ``logging_steps`` divide ``every``, or losses are left out. Only the main process records.
    Models whose parameters are sharded over processes (FSDP, DeepSpeed ZeRO-3) are not supported.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int,
        dataset: str = "mine",
        seed: int | None = None,
        overwrite: bool = False,
        frozen: bool = True,
        resume: bool = False,
    ) -> None:
        self._path, self._every, self._dataset = path, every, dataset
        self._seed, self._overwrite, self._frozen = seed, overwrite, frozen
        self._resume = resume
        self._recorder: TrajectoryRecorder | None = None
        self._pending = False
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        if self._recorder is not None:  # the training before was broken off
            self._recorder.abandon()
        self._pending, self._loss = False, None
        optimizer = kwargs.get("optimizer")
        self._recorder = TrajectoryRecorder(
            kwargs["model"],
            self._path,
            every=self._every,
            dataset=self._dataset,
            seed=args.seed if self._seed is None else self._seed,
            # accelerate wraps the optimizer, and torch's hooks live in the inner one.
            optimizer=getattr(optimizer, "optimizer", optimizer),
            first_step=state.global_step,
            overwrite=self._overwrite,
            frozen=self._frozen,
            resume=self._resume,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pending = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if isinstance(loss, int | float):  # NaN too: a run that diverged is known to have
            self._loss = float(loss)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Not left to on_train_end: by then the best model may have been loaded.
        self._count()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._count()
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def _count(self) -> None:
        """Count the step that ended; its loss is logged only after `on_step_end`."""
        if self._pending and self._recorder is not None:
            self._recorder.step(self._loss)
            self._loss = None
        self._pending = False
