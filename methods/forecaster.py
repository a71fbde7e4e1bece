"""The Forecaster interface: `fit` on other runs, `predict` one run from its context.

Two levels. A `CoordinateForecaster` gets blocks of coordinates, a row each, and never learns where
in the network they sit unless it asks ``task.tensor``; the harness streams the blocks, so memory
does not grow with the network. A `NetworkForecaster` gets the whole history. One that needs the
history for a few numbers only, a `OneLookForecaster`, then goes block by block as well.

Parameters follow scikit-learn's conventions through scikit-base (``get_params``, ``set_params``,
``clone``): ``__init__`` stores its arguments under their own names and does nothing else; what
`fit` learns ends in an underscore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from skbase.base import BaseObject

if TYPE_CHECKING:
    from pathlib import Path

    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory

#: Where a method's knowledge comes from.
PROVENANCES = ("zero-shot", "fit-on-train-split", "own-run-only")

#: Whose work a row is: written here; a paper's network trained here on a suite's runs; the same
#: with its authors' published weights; a library's own code.
IMPLEMENTATIONS = ("ours", "retrained here", "authors' weights", "library")

#: A network forecast: an array (m, *shape) a tensor; a tensor left out is an abstention.
NetworkForecast: TypeAlias = "Mapping[str, Floats]"


class WrongShape(ValueError):
    """A block's forecast does not have a row a coordinate and a column a horizon."""

    def __init__(self, shape: tuple[int, ...], wanted: tuple[int, int]) -> None:
        said = f"predict_block returns the shape {shape}, not (c, m) = {wanted}"
        if shape == wanted[::-1] and len(set(shape)) > 1:
            said += ": it is transposed, (m, c); return its .T"
        elif shape in {wanted[:1], (wanted[0], 1)}:
            said += ": it has a row a coordinate and no column a horizon"
        super().__init__(said)


class Forecaster(BaseObject):  # type: ignore[misc]  # scikit-base has no type hints
    """Base of all forecasters; derive from one of the two levels instead.

    Class attributes
    ----------------
    _tags : dict
        ``provenance``: one of `PROVENANCES`. ``reference``: the paper or formula. ``licence``.
        ``needs``: ``"train-loss"`` for methods that measure the run's own training loss;
        ``"truth"`` for the one reference that is shown what is to be forecast.
        ``role``: ``"forecaster"``, or ``"reference"`` for what is there to be measured against.
        ``sampled``: true for methods too slow for every coordinate, which run on the task's fixed
        sample. ``native_context``, ``native_spacing``, ``native_horizons``: what a published method
        was made for, in snapshots, optimizer steps and snapshots; None where any will do.
        ``implementation``: one of `IMPLEMENTATIONS`, whose work a row is. ``tested_against``: the
        independent implementation or closed form that our tests hold it to.
        ``random``: true where `fit` draws random numbers from ``task.seed``, so that another seed
        gives another method; such methods are fitted under several.
        ``scale_free``: true where a fitted method's forecast of s·w is s times that of w.
        ``shift_free``: true where its forecast of w + c is that of w, plus c.
    param_grid : dict of str to sequence
        The configurations that tuning may try, on validation runs.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "own-run-only",
        "reference": "",
        "licence": "BSD-3-Clause",
        "needs": (),
        "role": "forecaster",
        "implementation": "ours",
        "tested_against": "",
        "sampled": False,
        "random": False,
        "native_context": None,
        "native_spacing": None,
        "native_horizons": None,
        "scale_free": False,
        "shift_free": False,
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {}

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        """Learn from whole training runs; choose on whole validation runs.

        Parameters
        ----------
        train, validation : sequence of Trajectory
            In ascending order of seed; no test run is among them.
        task : ForecastTask
            ``task.pairs(run)`` streams (context, target) blocks of a run.
        """
        return self

    def predict(self, history: History, task: ForecastTask) -> NetworkForecast:
        """Forecast one run.

        Parameters
        ----------
        history : History
            The run up to its origin.
        task : ForecastTask

        Returns
        -------
        dict of str to ndarray, each (m, *shape) float32
            Tensors left out count as abstentions.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict")

    def reads(self) -> dict[str, list[Path]]:
        """Return the files that `fit` reads, by the parameter that names them.

        Results are kept under what the files hold; where they lie does not matter.
        """
        return {}

    def parameter_count(self) -> int | None:
        """Return the number of learned numbers, None where it is unknown or nothing is learned."""
        return None

    def flops_per_coordinate(self, task: ForecastTask) -> float | None:
        """Return the floating-point operations of one coordinate's forecast, None if unknown."""
        return None

    def diagnostics(self) -> dict[str, Any]:
        """Return what `fit` chose or found, as plain values for the result store."""
        return {}


def demand_shape(block: Any, c: int, m: int) -> None:
    """Hold a block's forecast to the shape (c, m).

    Raises
    ------
    WrongShape
        If it has another.
    """
    if np.shape(block) != (c, m):
        raise WrongShape(np.shape(block), (c, m))


class CoordinateForecaster(Forecaster):
    """A forecaster that treats coordinates independently, given what it learned."""

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        """Forecast a block of coordinates.

        Parameters
        ----------
        context : ndarray, shape (c, n + 1), float32
            Snapshots w_0..w_n, a row a coordinate.
        task : ForecastTask
            With ``tensor`` set to the block's tensor.

        Returns
        -------
        ndarray, shape (c, m), or None
            The forecast at ``task.horizons``; None abstains.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict_block")

    def predict(self, history: History, task: ForecastTask) -> NetworkForecast:
        m = len(task.horizons)
        forecast: dict[str, Floats] = {}
        for tensor, start, context in history.blocks(task.block_bytes):
            rows = np.arange(start, start + len(context))
            block = self.predict_block(context.copy(), task.for_tensor(tensor, rows))
            if block is not None:
                demand_shape(block, len(context), m)
                flat = forecast.setdefault(tensor.name, np.empty((m, tensor.size), np.float32))
                flat[:, start : start + len(block)] = np.asarray(block).T
        return {
            info.name: forecast[info.name].reshape(m, *info.shape)
            for info in history.tensors
            if info.name in forecast
        }


class NetworkForecaster(Forecaster):
    """A forecaster that needs the whole history: names, shapes, kinds, perhaps the loss."""


class OneLookForecaster(NetworkForecaster):
    """A network forecaster that, once it has looked at the history, treats coordinates alone.

    Its memory does not grow with the network: the harness streams blocks past what `look` returns.
    """

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        """Look at one run up to its origin.

        Parameters
        ----------
        history : History
            Large ones lie on disk: walk ``history.blocks``, or take one tensor at a time.
        task : ForecastTask

        Returns
        -------
        CoordinateForecaster
            For this run alone. It gets the blocks in the order of the tensors, with ``task.tensor``
            and ``task.rows`` set.
        """
        raise NotImplementedError(f"{type(self).__name__} has no look")

    def predict(self, history: History, task: ForecastTask) -> NetworkForecast:
        return self.look(history, task).predict(history, task)


class PerCoordinate(CoordinateForecaster):
    """A function of blocks as a coordinate forecaster.

    Parameters
    ----------
    function : callable
        Takes and returns what `CoordinateForecaster.predict_block` does.
    """

    def __init__(self, function: Callable[[Floats, ForecastTask], Floats | None]) -> None:
        self.function = function
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        return self.function(context, task)
