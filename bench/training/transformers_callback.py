"""A callback for `transformers.Trainer` that records its run and jumps to forecasts of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weightcast.bench.training.forecast import Loss, Run
from weightcast.bench.training.forecasting import IF_BETTER, Trial, Tried
from weightcast.bench.training.forecasting import Forecasting as InLoop
from weightcast.datasets import InputError
from weightcast.datasets.transformers_callback import TrajectoryCallback


class Forecasting(TrajectoryCallback):
    """Record a `transformers.Trainer` run, and jump to forecasts of it where they are better.

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
        As for `weightcast.bench.Forecasting`: snapshots between forecasts, and what decides.
    dataset, seed, overwrite, frozen, resume
        As for `TrajectoryCallback`.

    Attributes
    ----------
    tried : list of Tried
        What came of each forecast; ``trainer.state.log_history`` has the losses too.

    Notes
    -----
    A forecast is made before the step that follows its snapshot, after the Trainer has logged,
    evaluated and saved; none is made after the last step. The optimizer keeps its state.
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.world_size > 1:
            raise InputError(
                f"{args.world_size} processes train together, and a jump would move one of them; "
                "forecast in runs of one process"
            )
        super().on_train_begin(args, state, control, **kwargs)
        if self._recorder is not None:
            self._forecasting = InLoop.by(self._trial, self._recorder)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_step_begin(args, state, control, **kwargs)
        found = self._forecasting.step() if self._forecasting and self._recorder else None
        if found is not None:
            state.log_history.append({"step": state.global_step, **found.logged()})
