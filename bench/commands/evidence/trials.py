"""Methods tried at a known future: each fitted on what it may see there, its forecast scored.

What forecasts is handed a run that ends at the origin; the future is read by the scorer, after the
forecast of a block was made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.commands.evidence.cases import Case, up_to
from weightcast.bench.commands.fit_runs import NamedRun, sides
from weightcast.bench.commands.forecast_asked import (
    TUNED_ON_CONTEXT,
    Asked,
    blaming,
    fit_method,
    fit_on_context,
    forecast_task,
)
from weightcast.bench.commands.forecast_beside import evaluator_of, reason
from weightcast.bench.progress.signs_of_life import signs_of_life
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.scoring.metrics import WeightErrors
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import ForecastTask, InputError, Trajectory
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.history import TrainLoss
from weightcast.datasets.trajectory import Floats
from weightcast.methods import Forecaster, make_method

LAST_VALUE = "last-value"
#: What every method is compared with.
COMPARED = (LAST_VALUE, "damped-line", "line-search")
#: Coordinates on which a method is tried that takes milliseconds for each.
SAMPLE = 128


@dataclass(frozen=True)
class Trial:
    """One method's forecast from one origin, beside what came.

    Attributes
    ----------
    method : str
    case : Case
    rel_sum, rel_final : float or None
        None where there is no forecast, or where the weights did not move.
    train_loss : float or None
        At the last horizon; None where it could not be measured.
    why : str
        Why there is no forecast; empty where there is one.
    """

    method: str
    case: Case
    rel_sum: float | None = None
    rel_final: float | None = None
    train_loss: float | None = None
    why: str = ""


class Trials:
    """Tries methods at cases; what was fitted for one case serves others alike.

    Parameters
    ----------
    asked : Asked
        The forecast in question.
    fitted : Forecaster
        Its method, as it was fitted for it.
    measure : bool
        Whether training losses are measured, where the runs' recipes can be rebuilt.

    Attributes
    ----------
    coordinates : int
        On how many coordinates of each run the methods are tried.
    why_no_loss : str
        Why the training loss is not measured; empty where it is.
    """

    def __init__(self, asked: Asked, fitted: Forecaster, *, measure: bool) -> None:
        self._asked = asked
        self._fitted = {self._key(asked.method, asked.origin, asked.others): fitted}
        self._evaluators: dict[str, tuple[Evaluator | None, str]] = {}
        self._sample = self._sample_of(asked)
        whole = asked.own.run.n_coordinates
        self.coordinates = whole if self._sample is None else len(self._sample)
        self._measure = measure and self._sample is None
        self.why_no_loss = "" if self._measure else "it was not asked for (--no-measure)"
        if self._sample is not None:
            self.why_no_loss = "the method is tried on a sample of the coordinates"
        elif self._measure:
            self.why_no_loss = self._evaluator(asked.own.run)[1]

    @property
    def methods(self) -> list[str]:
        """The method in question among those that it is compared with."""
        return list(dict.fromkeys([LAST_VALUE, self._asked.method, *COMPARED[1:]]))

    def at(self, cases: Sequence[Case]) -> list[Trial]:
        """Try each method at each case; failures are told, not raised."""
        tries = [(case, method) for case in cases for method in self.methods]
        found = []
        for number, (case, method) in enumerate(tries, start=1):
            with signs_of_life(f"trying {method} where the future is known, {number}/{len(tries)}"):
                found.append(self._try(method, case))
        return found

    def train_loss(self, case: Case) -> float | None:
        """Measure the weights that the run really reached."""
        evaluator = self._evaluator(case.run.run)[0] if self._measure else None
        if evaluator is None:
            return None
        try:
            return _finite(
                evaluator.train_loss(case.run.run.snapshot(case.origin + self._asked.horizon))
            )
        except Exception:  # a recipe from elsewhere may be of another network
            return None

    def _try(self, method: str, case: Case) -> Trial:
        evaluator = self._evaluator(case.run.run)[0] if self._measure else None
        try:
            forecaster = make_method(method)
            if "train-loss" in forecaster.get_tag("needs") and evaluator is None:
                why = self._evaluator(case.run.run)[1] or self.why_no_loss
                return Trial(method, case, why=f"it measures the train loss, but {why}")
            seen = NamedRun(case.run.path, up_to(case.run.run, case.origin))
            task = self._task(seen, case)
            fitted = self._fit(forecaster, method, seen, case, task)
            with blaming(method, [seen], case.origin + 1):
                return self._score(fitted, method, seen.run, case, task, evaluator)
        except InputError as error:
            return Trial(method, case, why=str(error))

    def _task(self, seen: NamedRun, case: Case) -> ForecastTask:
        if case.own_forecast:
            return self._asked.task
        # The steps of the horizons are those at which the run was recorded.
        known = case.run.run.steps[case.origin + 1 : case.origin + self._asked.horizon + 1]
        task = forecast_task(seen, case.train, case.origin, len(known), known.copy())
        return replace(task, block_bytes=self._asked.task.block_bytes)

    def _fit(
        self, forecaster: Forecaster, method: str, seen: NamedRun, case: Case, task: ForecastTask
    ) -> Forecaster:
        train = case.train
        if not train and method == TUNED_ON_CONTEXT:
            return fit_on_context(forecaster, seen)
        if not train and forecaster.get_tag("provenance") == "fit-on-train-split":
            mend = "more than one run" if self._asked.others else "runs"
            raise InputError(f"it learns from other runs; give {mend} with --fit")
        key = self._key(method, case.origin, train)
        if key not in self._fitted:
            self._fitted[key] = fit_method(forecaster, method, *sides(train), task, quiet=True)
        return self._fitted[key]

    @staticmethod
    def _key(method: str, origin: int, train: Sequence[NamedRun]) -> str:
        return json.dumps([method, origin, [str(run.path) for run in train]])

    def _score(
        self,
        fitted: Forecaster,
        method: str,
        seen: Trajectory,
        case: Case,
        task: ForecastTask,
        evaluator: Evaluator | None,
    ) -> Trial:
        run, m = case.run.run, len(task.horizons)
        targets = range(case.origin + 1, case.origin + 1 + m)
        errors = WeightErrors(m)
        weights: dict[str, Floats] = {}
        if evaluator is not None:
            weights = {info.name: np.empty(info.size, np.float32) for info in run.tensors}

        def loss_of(run: Trajectory) -> TrainLoss | None:
            return TrainLoss(evaluator.train_loss) if evaluator else None

        for block in ForecastStream(fitted, seen, task, self._sample, loss_of):
            first, last = int(block.rows[0]), int(block.rows[-1])
            truth = run.read(block.tensor, targets, first, last + 1)[:, block.rows - first].T
            errors.add(block.tensor.name, block.forecast, truth, block.last)
            if evaluator is not None:
                weights[block.tensor.name][block.rows] = block.forecast[:, -1]
        metrics = errors.metrics()
        loss = None
        if evaluator is not None:
            shaped = {info.name: weights[info.name].reshape(info.shape) for info in run.tensors}
            loss = self._loss(evaluator, shaped)
        rel_sum, rel_final = _finite(metrics["rel_sum"]), _finite(metrics["rel_final"])
        return Trial(method, case, rel_sum, rel_final, loss)

    def _loss(self, evaluator: Evaluator, weights: dict[str, Floats]) -> float | None:
        try:
            # Infinity is a loss too, and a bad one; NaN is as bad.
            loss = evaluator.train_loss(weights)
        except Exception as error:  # a recipe from elsewhere may be of another network
            self.why_no_loss = self.why_no_loss or reason(error)
            return None
        return math.inf if math.isnan(loss) else loss

    def _evaluator(self, run: Trajectory) -> tuple[Evaluator | None, str]:
        """Rebuild what measures a run; runs of one recipe share it."""
        recipe = run.meta.recipe
        key = json.dumps([recipe, run.meta.seed if "generator" in recipe else None, run.meta.truth])
        if key not in self._evaluators:
            self._evaluators[key] = evaluator_of(run)
        return self._evaluators[key]

    @staticmethod
    def _sample_of(asked: Asked) -> NDArray[np.int64] | None:
        run = asked.own.run
        if not asked.forecaster.get_tag("sampled") or run.n_coordinates <= SAMPLE:
            return None
        return coordinate_sample(run.meta.dataset, run.n_coordinates, SAMPLE)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
