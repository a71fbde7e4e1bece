"""Training runs of one recipe that differ in seed and learning rate alone, as one object.

The loop tier steps, measures and moves the weights of all runs of a group together. How they are
stepped depends on the network: small ones `side_by_side`, others `one_by_one`; every run has the
weights, gradients and optimizer state that it would have alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from weightcast.datasets.examples.examples import Examples, inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.networks.build import build_network, describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import TensorInfo


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of the pool, in PyTorch's form.

    Attributes
    ----------
    kind : str
        ``"sgd"``, ``"nesterov"``, ``"adam"``, ``"schedule-free-sgd"`` or ``"schedule-free-adam"``.
    momentum : float
        β of Nesterov's; of a Schedule-Free one how near to its average gradients are taken.
    """

    kind: str
    momentum: float = 0.0

    @property
    def schedule_free(self) -> bool:
        """Whether the weights are its average, and not where its gradients are taken."""
        return self.kind.startswith("schedule-free-")


@dataclass(frozen=True)
class Measured:
    """Losses and accuracies of all runs, each of shape (runs,)."""

    train_loss: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]


class TrainingRuns(ABC):
    """Runs of one recipe's network that are trained together.

    Parameters
    ----------
    recipe : Recipe
        Its network, data and batch size; optimizer and rates are given here.
    optimizer : Optimizer
    rates : ndarray, shape (runs, steps)
        Each run's learning rate at each step.
    seeds : sequence of int
        Each run's seed: its initial state.
    orders : sequence of str
        What each run's batches are shuffled by; runs with the same see the same batches.
    measured : int, optional
        Losses are taken on so many of the first training and test examples; on all by default.
    averages : sequence of int
        Windows of moving averages, in steps.

    Attributes
    ----------
    weights : Tensor, shape (runs, coordinates)
    averages : dict of int to Tensor, shape (runs, coordinates)
        By window, an exponential moving average of the weights that keeps 1 - 1/window of itself
        a step, once it is warm.
    tensors : list of TensorInfo
    steps_done : int
    """

    def __init__(
        self,
        recipe: Recipe,
        optimizer: Optimizer,
        rates: NDArray[np.float64],
        seeds: Sequence[int],
        orders: Sequence[str],
        measured: int | None = None,
        averages: Sequence[int] = (),
    ) -> None:
        self.examples = load_examples(recipe.data, **recipe.data_options)
        self.network = build_network(recipe.network, **recipe.network_options)
        self.tensors = _placed(describe_tensors(self.network))
        starts = {seed: _initial(recipe, seed) for seed in dict.fromkeys(seeds)}
        self.weights = torch.stack([starts[seed] for seed in seeds])
        self.averages = {window: self.weights.clone() for window in averages}
        self.batches = Batches(recipe, self.examples, orders)
        self.measured = measured
        self.steps_done = 0
        self._optimizer = optimizer
        self._rates = torch.from_numpy(np.asarray(rates, dtype=np.float32))
        self._moments = [torch.zeros_like(self.weights) for _ in range(2)]
        self._moment_steps = 0
        self._squares = torch.zeros(len(self.weights), 1)  # Σ rate² of a Schedule-Free optimizer
        self._prepare(recipe, orders)

    @abstractmethod
    def _prepare(self, recipe: Recipe, orders: Sequence[str]) -> None:
        """Make ready what `gradients` and `measure` need beside the attributes."""

    @abstractmethod
    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return each run's gradient on its own batch, shape (runs, coordinates).

        Parameters
        ----------
        x, y : Tensor, shape (runs, batch, ...)
        """

    @abstractmethod
    def measure(self, weights: torch.Tensor) -> Measured:
        """Measure weights (runs, coordinates) on the training and the test data."""

    @abstractmethod
    def train_loss(self, weights: torch.Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return each run's loss on some training examples in one forward pass, shape (runs,)."""

    def step(self) -> None:
        """Train each run by one batch."""
        rate = self._rates[:, self.steps_done, None]
        # Where all rates have fallen to zero, and they stay there, a gradient moves nothing.
        gradient = self._gradient_there() if rate.any() else None
        with torch.no_grad():
            if gradient is not None:
                self._update(gradient, rate)
            self.steps_done += 1
            for window, average in self.averages.items():
                # Warm from the first step on: a fixed factor would keep the start in it for long.
                keep = min(1 - 1 / window, (1 + self.steps_done) / (10 + self.steps_done))
                average.lerp_(self.weights, 1 - keep)

    def reset_optimizer(self) -> None:
        """Forget momentum and second moments."""
        for moment in self._moments:
            moment.zero_()
        self._moment_steps = 0
        self._squares.zero_()

    def by_tensor(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return one run's weights as views, each in its tensor's shape; flat (coordinates,)."""
        return {
            info.name: flat[info.offset : info.offset + info.size].reshape(info.shape)
            for info in self.tensors
        }

    def _gradient_there(self) -> torch.Tensor:
        """Return each run's gradient where its optimizer takes it."""
        batch = self.batches.next()
        if not self._optimizer.schedule_free:
            return self.gradients(*batch)
        # The weights are x, the first moment is z - x: it stays where it is when x is moved.
        x = self.weights
        self.weights = x.add(self._moments[0], alpha=1 - self._optimizer.momentum)
        try:
            return self.gradients(*batch)
        finally:
            self.weights = x

    def _update(self, gradient: torch.Tensor, rate: torch.Tensor) -> None:
        """Take a step as `torch.optim` does; ``rate`` has shape (runs, 1)."""
        first, second = self._moments
        self._moment_steps += 1
        if self._optimizer.kind == "sgd":
            self.weights.sub_(rate * gradient)
        elif self._optimizer.kind == "nesterov":
            first.mul_(self._optimizer.momentum).add_(gradient)
            self.weights.sub_(rate * gradient.add(first, alpha=self._optimizer.momentum))
        elif self._optimizer.schedule_free:
            self._update_schedule_free(gradient, rate)
        else:
            first.lerp_(gradient, 0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            bias = 1 - 0.9**self._moment_steps, 1 - 0.999**self._moment_steps
            scale = second.sqrt().div_(bias[1] ** 0.5).add_(1e-8)
            self.weights.sub_(rate / bias[0] * first / scale)

    def _update_schedule_free(self, gradient: torch.Tensor, rate: torch.Tensor) -> None:
        """Take a step as `schedule_free.ScheduleFree` does."""
        apart, second = self._moments
        if self._optimizer.kind == "schedule-free-adam":
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            root = (second / (1 - 0.999**self._moment_steps)).sqrt_()
            gradient = gradient / root.add_(1e-8)
        apart.sub_(rate * gradient)
        self._squares += rate**2
        # A run whose rate has been zero from the start averages nothing.
        share = rate**2 / self._squares.clamp(min=torch.finfo(rate.dtype).tiny)
        self.weights.add_(share * apart)
        apart.mul_(1 - share)


class Batches:
    """Each run's batches, shuffled anew every epoch; the last of an epoch may be short."""

    def __init__(self, recipe: Recipe, examples: Examples, orders: Sequence[str]) -> None:
        self._examples, self._size = examples, recipe.batch_size
        self._count = len(examples.train_y)
        distinct = list(dict.fromkeys(orders))
        self._randoms = [
            np.random.default_rng(recipe.random_seed(0, f"loop batches {order}"))
            for order in distinct
        ]
        self._which = torch.tensor([distinct.index(order) for order in orders])
        self._start = self._count
        self._epoch = torch.empty(0)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs (runs, batch, ...) and targets (runs, batch, ...)."""
        if self._start >= self._count:
            shuffled = [random.permutation(self._count) for random in self._randoms]
            self._epoch, self._start = torch.from_numpy(np.stack(shuffled)), 0
        rows = self._epoch[:, self._start : self._start + self._size]
        self._start += self._size
        # Read once for runs that share an order, then handed to each of them.
        x, y = inputs(self._examples.train_x[rows]), self._examples.train_y[rows]
        return x[self._which], y[self._which]


def _placed(tensors: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Give tensors their offsets in a flat row."""
    placed, offset = [], 0
    for info in tensors:
        placed.append(replace(info, offset=offset))
        offset += info.size
    return placed


def _initial(recipe: Recipe, seed: int) -> torch.Tensor:
    """Return a run's start, one flat row; the same for every optimizer and rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.random_seed(seed, "loop start"))
        network = build_network(recipe.network, **recipe.network_options)
    trained = [p.detach().reshape(-1) for p in network.parameters() if p.requires_grad]
    return torch.cat(trained)
