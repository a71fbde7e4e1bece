"""`Forecasting`: a run that jumps to forecasts of itself where they are better, and says so.

What is better is measured, by a loss that the user gives, before and after; where it is not, the
network goes on as if nothing had been tried, to the last bit. The optimizer keeps its state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from weightcast.bench.commands.forecast_asked import TUNED_ON_CONTEXT
from weightcast.bench.commands.forecast_beside import reason
from weightcast.bench.training.batch_norm import re_estimate
from weightcast.bench.training.forecast import Asking, Forecast, Loss, Run, in_words_of_python
from weightcast.bench.training.kept import Kept, load_in_place, unnoticed
from weightcast.datasets import InputError, TrajectoryRecorder
from weightcast.datasets.errors import unknown
from weightcast.datasets.numbers import one_number, whole_number
from weightcast.methods import all_methods, make_method

_log = logging.getLogger(__name__)

IF_BETTER, ALWAYS, NEVER = "if-better", "always", "never"


@dataclass(frozen=True)
class Tried:
    """What came of one forecast.

    Attributes
    ----------
    step : int
        The origin's.
    forecast_step : int or None
        The step that it was for; None where it failed.
    snapshots : int
        How many the forecast saw.
    before, after : float or None
        The loss with the weights of the origin, and with those of the forecast; None where no loss
        was given, or the forecast failed.
    jumped : bool
        Whether training goes on from the forecast.
    batch_norm : str
        As in `Forecast`.
    seconds : float
        That all of it took.
    failed : str
        Why there was no forecast; empty where there was one.
    """

    step: int
    forecast_step: int | None = None
    snapshots: int = 0
    before: float | None = None
    after: float | None = None
    jumped: bool = False
    batch_norm: str = "none"
    seconds: float = 0.0
    failed: str = ""

    def __str__(self) -> str:
        if self.failed:
            return f"step {self.step}: no forecast, {self.failed}"
        said = f"step {self.step}: forecast of step {self.forecast_step}"
        if self.before is not None:
            said += f", loss {self.before:.4g} -> {self.after:.4g}"
        said += ": jumped" if self.jumped else ": not jumped"
        if self.batch_norm == "kept":
            said += ", batch-norm statistics kept"
        return f"{said}, {self.seconds:.2f} s"

    def logged(self) -> dict[str, Any]:
        """Return what loggers take, each under a name of its own; what is not known is left out."""
        names = ("forecast_step", "before", "after", "jumped", "seconds", "failed")
        values = asdict(self)
        return {
            f"forecast/{name.removeprefix('forecast_')}": values[name]
            for name in names
            if values[name] not in (None, "")
        }


class Trial:
    """Makes a forecast of a run that is recorded, and moves the network where that is better.

    Parameters are those of `Forecasting`.
    """

    def __init__(
        self,
        method: str,
        horizon: int,
        *,
        every: int,
        loss: Loss | None,
        jump: str = IF_BETTER,
        fit: Sequence[Run] = (),
        window: int | None = None,
        batches: Iterable[Any] | None = None,
    ) -> None:
        if jump not in (IF_BETTER, ALWAYS, NEVER):
            raise unknown("jump", jump, (IF_BETTER, ALWAYS, NEVER))
        if loss is None and jump == IF_BETTER:
            raise InputError(
                'loss is what jump="if-better" measures: give a function from the network to its '
                'loss, or jump="always"'
            )
        if loss is not None and not callable(loss):
            raise InputError(f"loss must be a function of the network, not {type(loss).__name__}")
        forecaster = make_method(method)
        learns = forecaster.get_tag("provenance") == "fit-on-train-split"
        if learns and not fit and method != TUNED_ON_CONTEXT:
            raise InputError(
                f"{method} learns from other runs: give whole runs of the same network as fit, or "
                f"take a method that needs none: {', '.join(_of_own_run())}"
            )
        self.every = whole_number("every", every, least=2)
        with in_words_of_python():
            self._asking = Asking(method, horizon, fit, window=window)
        self._loss, self._jump, self._batches = loss, jump, batches

    def __call__(self, recorder: TrajectoryRecorder) -> Tried:
        """Try it now."""
        start = time.perf_counter()
        try:
            with in_words_of_python(), unnoticed(recorder.model):
                found = self._asking.forecast(recorder, recorder.model, self._batches, self._loss)
        except InputError as error:
            seconds = time.perf_counter() - start
            return Tried(recorder.steps, seconds=seconds, failed=reason(error))
        before, after, jumped = self._move(recorder, found)
        return Tried(
            step=recorder.steps,
            forecast_step=found.step,
            snapshots=found.snapshots,
            before=before,
            after=after,
            jumped=jumped,
            batch_norm=found.batch_norm,
            seconds=time.perf_counter() - start,
        )

    def _move(
        self, recorder: TrajectoryRecorder, found: Forecast
    ) -> tuple[float | None, float | None, bool]:
        model, kept = recorder.model, Kept(recorder.model)
        try:
            # With the forecast's statistics of batch norm on the one side and those that lag behind
            # on the other, it would be these that are compared.
            own = self._batches if found.batch_norm == "re-estimated" else None
            before = self._measured(model, own)
            kept.restore()
            load_in_place(model, found)
            after = self._measured(model)
        finally:
            kept.restore()
        jumped = self._jump == ALWAYS or (self._jump == IF_BETTER and _better(before, after))
        if jumped:
            load_in_place(model, found)
            recorder.jumped()
        return before, after, jumped

    def _measured(
        self, model: torch.nn.Module, batches: Iterable[Any] | None = None
    ) -> float | None:
        """Return the loss of the network, with batch-norm statistics of batches if given."""
        if self._loss is None:
            return None
        with unnoticed(model):
            if batches is not None:
                re_estimate(model, batches)
            return float(one_number("loss", self._loss(model)))


class Forecasting:
    """Forecast a run every so many snapshots, and jump where the loss is better.

    Parameters
    ----------
    recorder : TrajectoryRecorder
        Which records the run.
    method, horizon, fit
        As for `forecast`.
    every : int
        Snapshots between forecasts, two or more: the first is made after so many.
    loss : callable, optional
        From the network as it is to its loss, a number; on data that training does not see, say.
        It is called without gradients, once with the weights of now and once with the forecast, and
        by methods that measure a loss themselves (``line-search``). Not needed where ``jump`` is
        ``"always"`` or ``"never"``.
    jump : str
        ``"if-better"``, ``"always"`` or ``"never"``, which only tells what a jump would have done.
    window : int, optional
        How many of the last snapshots a forecast sees; all since the last jump by default: what was
        before it tells nothing of where training goes.
    batches : iterable, optional
        As for `forecast`: without them batch norm keeps the statistics of other weights, under
        which a network may be no better than chance. With them, both losses are measured with
        statistics of these batches. Not a generator, for they are used again.

    Attributes
    ----------
    tried : list of Tried
        What came of each forecast.

    Raises
    ------
    InputError
        If an argument is wrong, the method does not exist, or several processes train together.

    Notes
    -----
    Where the forecast is not taken, weights, buffers, training modes and random numbers are as if
    it had not been made. A method that fails costs its forecast, not the training. Optimizers that
    keep weights of their own (Schedule-Free, Lookahead) do not notice a jump, and pull back.

    Save checkpoints before `step`, so that they hold what was recorded.
    """

    def __init__(
        self,
        recorder: TrajectoryRecorder,
        method: str,
        horizon: int,
        *,
        every: int,
        loss: Loss | None = None,
        jump: str = IF_BETTER,
        fit: Sequence[Run] = (),
        window: int | None = None,
        batches: Iterable[Any] | None = None,
    ) -> None:
        trial = Trial(
            method, horizon,
            every=every, loss=loss, jump=jump, fit=fit, window=window, batches=batches,
        )  # fmt: skip
        self._begin(recorder, trial)

    @classmethod
    def by(cls, trial: Trial, recorder: TrajectoryRecorder) -> Forecasting:
        """Forecast what a recorder records."""
        made = cls.__new__(cls)
        made._begin(recorder, trial)
        return made

    def _begin(self, recorder: TrajectoryRecorder, trial: Trial) -> None:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        if there and torch.distributed.get_world_size() > 1:
            raise InputError(
                "several processes train together, and a jump would move one of them; forecast in "
                "runs of one process"
            )
        self._recorder, self._try = recorder, trial
        self._seen, self._since = recorder.snapshots, 0
        self.tried: list[Tried] = []

    def step(self) -> Tried | None:
        """Forecast where it is time to, and jump where that is better.

        Call it after `TrajectoryRecorder.step`, before the next step of training.

        Returns
        -------
        Tried or None
            What came of it; None where it was not time yet.
        """
        self._since += self._recorder.snapshots - self._seen
        self._seen = self._recorder.snapshots
        if self._since < self._try.every or not self._recorder.at_snapshot:
            return None
        found = self._try(self._recorder)
        self._since = 0
        self.tried.append(found)
        _log.info("%s: %s", self._recorder.path, found)
        return found


def _of_own_run() -> list[str]:
    """List the forecasters that need no other run and no loss."""
    return [
        name
        for name, cls in all_methods().items()
        if (cls.get_class_tag("provenance") != "fit-on-train-split" or name == TUNED_ON_CONTEXT)
        and cls.get_class_tag("role", "forecaster") == "forecaster"
        and not set(cls.get_class_tag("needs", ())) & {"truth", "train-loss"}
    ]


def _better(before: float | None, after: float | None) -> bool:
    """Say whether a loss is better than another; any is better than none that is a number."""
    if before is None or after is None or not math.isfinite(after):
        return False
    return after < before or math.isnan(before)
