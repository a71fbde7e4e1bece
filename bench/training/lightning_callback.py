"""A callback for Lightning's `Trainer` that records its run and jumps to forecasts of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weightcast.bench.training.forecast import Loss, Run
from weightcast.bench.training.forecasting import IF_BETTER, Trial, Tried
from weightcast.bench.training.forecasting import Forecasting as InLoop
from weightcast.datasets import InputError
from weightcast.datasets.lightning_callback import TrajectoryCallback


class Forecasting(TrajectoryCallback):
    """Record a Lightning run, and jump to forecasts of it where they are better.

    ``Trainer(..., callbacks=[Forecasting(...)])``

    Parameters
    ----------
    path
        The trajectory to write, as for `TrajectoryCallback`.
    method, horizon
        As for `weightcast.bench.forecast`.
    snapshot_every : int
        Steps between snapshots.
    every, loss, jump, fit, window, batches
        As for `weightcast.bench.Forecasting`: snapshots between forecasts, and what decides. The
        loss gets the LightningModule.
    dataset, seed, overwrite, frozen, resume
        As for `TrajectoryCallback`.

    Attributes
    ----------
    tried : list of Tried
        What came of each forecast; the trainer's loggers get the losses too.

    Notes
    -----
    A forecast is made before the batch that follows its snapshot, after checkpoints were saved;
    none is made after the last step. The optimizer keeps its state.
    """

    def __init__(
        self,
        path: str | Path,
        method: str,
        horizon: int,
        *,
        snapshot_every: int,
        every: int,
        loss: Loss | None = None,
        jump: str = IF_BETTER,
        fit: Sequence[Run] = (),
        window: int | None = None,
        batches: Iterable[Any] | None = None,
        **recorded: Any,
    ) -> None:
        super().__init__(path, every=snapshot_every, **recorded)
        self._trial = Trial(
            method, horizon,
            every=every, loss=loss, jump=jump, fit=fit, window=window, batches=batches,
        )  # fmt: skip
        self._forecasting: InLoop | None = None

    @property
    def tried(self) -> list[Tried]:
        return self._forecasting.tried if self._forecasting else []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.world_size > 1:
            raise InputError(
                f"{trainer.world_size} processes train together, and a jump would move one of "
                "them; forecast in runs of one process"
            )
        super().on_train_start(trainer, pl_module)
        if self._recorder is not None:
            self._forecasting = InLoop.by(self._trial, self._recorder)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        found = self._forecasting.step() if self._forecasting and self._recorder else None
        if found is not None:
            for logger in trainer.loggers:
                logger.log_metrics(found.logged(), step=trainer.global_step)
