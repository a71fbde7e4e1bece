"""What the small learned networks share: one network for all coordinates of all networks.

Each coordinate is normalised by its own context: w_n is subtracted and the range of the context
divides. The network maps the n + 1 normalised values to m normalised displacements. Its loss is the
mean absolute error in raw weights (the normalised error times the coordinate's range), since
forecasts are scored in raw weights; coordinates that did not move are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.device import torch_device
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.training import (
    check_budget,
    draw_rows,
    run_network,
    train_network,
)

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory


class LearnedForecaster(CoordinateForecaster):
    """Base of the learned networks; subclasses build the network.

    Parameters
    ----------
    learning_rate : float
        Adam's, after a warm-up; see `weightcast.methods.training.train_network`.
    updates : int
        Optimizer updates at most; training ends before, once it improves no more.
    patience : int
        Training ends after so many checks without a validation loss that is better by a percent,
        one check every 50 updates; the best state is kept.
    batch_size : int
        At most a quarter of the training sample is taken.
    rows : int
        Coordinates sampled at random from the training runs; a quarter as many from validation.
    device : str
        ``"cpu"``, or ``"cuda"`` to train and forecast on a GPU; its kernels round differently.

    Attributes
    ----------
    network_ : torch.nn.Module
        On the CPU, wherever it was trained.
    trained_ : Trained
        How its training went.
    """

    _tags: ClassVar[dict[str, Any]] = {"provenance": "fit-on-train-split", "random": True}

    network_: torch.nn.Module

    def __init__(
        self,
        learning_rate: float = 3e-3,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 256,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.learning_rate = learning_rate
        self.updates = updates
        self.patience = patience
        self.batch_size = batch_size
        self.rows = rows
        self.device = device
        super().__init__()

    def build(self, n: int, m: int) -> torch.nn.Module:
        """Build the network: input (c, n + 1), output (c, m)."""
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def split(self, values: Floats, task: ForecastTask) -> tuple[Floats, Floats]:
        """Cut snapshots (c, T) into what the network sees (c, k) and what it learns to say."""
        return values[:, : task.context + 1], values[:, task.context + 1 :]

    def origin_and_scale(self, seen: Floats) -> tuple[Floats, Floats]:
        """Return what is subtracted and what divides, each (c, 1); a scale of 0 leaves rows out."""
        return seen[:, -1:], value_range(seen)

    def error(
        self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, importance: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean absolute error in raw weights, what validation is judged by.

        Parameters
        ----------
        network : torch.nn.Module
        x, y : Tensor, shapes (c, k) and (c, m)
            What is seen and what is to be said, normalised.
        importance : Tensor, shape (c,)
            Each row's scale, 1 on average.
        """
        said: torch.Tensor = (network(x) - y).abs().mean(dim=1) * importance
        return said.mean()

    def training_error(
        self, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, importance: torch.Tensor
    ) -> torch.Tensor:
        """Return what training makes small, `error` unless a subclass says otherwise."""
        return self.error(network, x, y, importance)

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        import torch

        check_budget(self)
        device = torch_device(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            network = self.build(task.context, len(task.horizons))
            random = np.random.default_rng(task.seed)
            material = self._material(train, task, self.rows, random)
            check = self._material(validation, task, self.rows // 4, random)
            self._train(network.to(device), material, check, random)
            self.network_ = network.cpu()
        return self

    def _material(
        self,
        runs: Sequence[Trajectory],
        task: ForecastTask,
        count: int,
        random: np.random.Generator,
    ) -> _Material:
        values = draw_rows(runs, task, count, random)[""].values
        seen, wanted = self.split(values, task)
        origin, scale = self.origin_and_scale(seen)
        material = _Material(seen, wanted, origin, scale, torch_device(self.device))
        if material.count == 0:
            raise ValueError(
                "no sampled coordinate moves within its context: nothing to learn from"
            )
        return material

    def _train(
        self,
        network: torch.nn.Module,
        train: _Material,
        validation: _Material,
        random: np.random.Generator,
    ) -> None:
        check = validation.take(slice(None), 1.0)

        def batch_loss(rows: NDArray[np.int64]) -> torch.Tensor:
            # The mirror image of a trajectory is as good a trajectory.
            sign = random.choice(np.array([-1.0, 1.0], np.float32), size=(len(rows), 1))
            return self.training_error(network, *train.take(rows, sign))

        self.trained_ = train_network(
            network,
            batch_loss,
            train.count,
            lambda mean: self.error(mean, *check),
            random,
            learning_rate=self.learning_rate,
            updates=self.updates,
            patience=self.patience,
            batch_size=self.batch_size,
        )

    def forecast(self, seen: Floats, width: int) -> Floats:
        """Return what the network says (c, width) of seen values (c, k); still rows stay."""
        origin, scale = self.origin_and_scale(seen)
        rows = np.flatnonzero(scale[:, 0] > 0)
        x = (seen[rows] - origin[rows]) / scale[rows]
        said = run_network(self.network_, self.device, width, x)
        forecast = np.repeat(seen[:, -1:], width, axis=1)
        forecast[rows] = origin[rows] + said * scale[rows]
        return forecast

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        return self.forecast(context, len(task.horizons))

    def parameter_count(self) -> int | None:
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def diagnostics(self) -> dict[str, Any]:
        return self.trained_.told()


class _Material:
    """Normalised training material: inputs, targets and each row's weight in the loss."""

    def __init__(
        self, seen: Floats, wanted: Floats, origin: Floats, scale: Floats, device: torch.device
    ) -> None:
        keep = scale[:, 0] > 0
        self._x = (seen[keep] - origin[keep]) / scale[keep]
        self._y = (wanted[keep] - origin[keep]) / scale[keep]
        self._importance = scale[keep, 0] / max(float(scale[keep, 0].mean()), 1e-30)
        self._device = device
        self.count = len(self._x)

    def take(
        self, rows: Any, sign: Floats | float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import torch

        return (
            torch.from_numpy(np.asarray(self._x[rows] * sign, dtype=np.float32)).to(self._device),
            torch.from_numpy(np.asarray(self._y[rows] * sign, dtype=np.float32)).to(self._device),
            torch.from_numpy(self._importance[rows]).to(self._device),
        )


def value_range(context: Floats) -> Floats:
    """Return max − min over the context, shape (c, 1)."""
    spread: Floats = context.max(axis=1, keepdims=True) - context.min(axis=1, keepdims=True)
    return spread
