"""A callback for Lightning's `Trainer` that records its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from weightcast.datasets.recording.trajectory_recorder import TrajectoryRecorder


class TrajectoryCallback(Callback):
    """Record a Lightning run: ``Trainer(..., callbacks=[TrajectoryCallback(...)])``.

    Parameters
    ----------
    path, every, dataset, seed, overwrite, frozen, resume
        As for `TrajectoryRecorder`.

    Notes
    -----
    Steps are the trainer's ``global_step``; with accumulated gradients a step's loss is the mean
    over its batches. Of several optimizers the first one's schedule is recorded. Only the main
    process records. Sharded models (FSDP, DeepSpeed) are not supported.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int,
        dataset: str = "mine",
        seed: int = 0,
        overwrite: bool = False,
        frozen: bool = True,
        resume: bool = False,
    ) -> None:
        super().__init__()
        self._path, self._every, self._dataset = path, every, dataset
        self._seed, self._overwrite, self._frozen = seed, overwrite, frozen
        self._resume = resume
        self._recorder: TrajectoryRecorder | None = None
        self._done = 0
        self._losses: list[Any] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._done, self._losses = trainer.global_step, []
        self._recorder = TrajectoryRecorder(
            pl_module,
            self._path,
            every=self._every,
            dataset=self._dataset,
            seed=self._seed,
            optimizer=trainer.optimizers[0] if trainer.optimizers else None,
            first_step=trainer.global_step,
            overwrite=self._overwrite,
            frozen=self._frozen,
            resume=self._resume,
        )

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._recorder is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Lightning has divided it by the number of batches that a step accumulates.
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)
        while self._done < trainer.global_step:
            self._done += 1
            mean = sum(self._losses) / len(self._losses) if self._losses else None
            self._recorder.step(mean)
            if self._done == trainer.global_step:
                self._losses = []

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._recorder is not None:
            self._recorder.abandon()
            self._recorder = None
