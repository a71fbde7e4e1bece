"""Training many runs of one small network side by side.

A step of a small network spends its time on starting operations, not on numbers. Runs that differ
in seed and learning rate alone are therefore stacked and stepped together (`torch.func.vmap`). That
changes nothing beyond rounding: every run has the weights, gradients and optimizer state that it
would have alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, grad, vmap

from weightcast.datasets.errors import InputError
from weightcast.datasets.evaluator import cross_entropy, network_state
from weightcast.datasets.examples import Examples, inputs, load_examples
from weightcast.datasets.networks import build_network, describe_tensors
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import TensorInfo

#: Bytes of inputs that go through all networks at once while losses are measured.
_CHUNK = 2**22


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of the pool, in PyTorch's form.

    Attributes
    ----------
    kind : str
        ``"sgd"``, ``"nesterov"`` or ``"adam"``.
    momentum : float
        β of Nesterov's.
    """

    kind: str
    momentum: float = 0.0


@dataclass(frozen=True)
class Measured:
    """Losses and accuracies of all runs, each of shape (runs,)."""

    train_loss: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]


class SideBySide:
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

    Attributes
    ----------
    weights : Tensor, shape (runs, coordinates)
    average : Tensor, shape (runs, coordinates)
        The exponential moving average of the weights.
    tensors : list of TensorInfo
    steps_done : int
    """

    #: What the moving average keeps of itself a step, once it is warm.
    AVERAGE = 0.99

    def __init__(
        self,
        recipe: Recipe,
        optimizer: Optimizer,
        rates: NDArray[np.float64],
        seeds: Sequence[int],
        orders: Sequence[str],
        measured: int | None = None,
    ) -> None:
        _refuse_shared_state(recipe)
        self._examples = load_examples(recipe.data, **recipe.data_options)
        self._batch_size = recipe.batch_size
        self._measured = measured
        self._optimizer = optimizer
        self._rates = torch.from_numpy(np.asarray(rates, dtype=np.float32))
        starts = {seed: _initial(recipe, seed) for seed in dict.fromkeys(seeds)}
        self._network = build_network(recipe.network, **recipe.network_options)
        self.tensors = _placed(describe_tensors(self._network))
        self.weights = torch.stack([starts[seed] for seed in seeds])
        self.average = self.weights.clone()
        self._batches = _Batches(recipe, self._examples, orders)
        self._moments = [torch.zeros_like(self.weights) for _ in range(2)]
        self._moment_steps = 0
        self.steps_done = 0
        self._gradient = vmap(grad(self._loss), in_dims=(0, 0, 0))
        self._outputs = vmap(self._forward, in_dims=(0, None))

    def step(self) -> None:
        """Train each run by one batch."""
        x, y = self._batches.next()
        gradient = self._gradient(self.weights, x, y)
        with torch.no_grad():
            self._update(gradient, self._rates[:, self.steps_done, None])
            self.steps_done += 1
            # Warm from the first step on: a fixed factor would keep the start in it for long.
            keep = min(self.AVERAGE, (1 + self.steps_done) / (10 + self.steps_done))
            self.average.lerp_(self.weights, 1 - keep)

    def reset_optimizer(self) -> None:
        """Forget momentum and second moments."""
        for moment in self._moments:
            moment.zero_()
        self._moment_steps = 0

    def measure(self, weights: torch.Tensor) -> Measured:
        """Measure weights (runs, coordinates) on the training and the test data."""
        data = self._examples
        train = self._measure(weights, data.train_x[: self._measured], data.train_y)
        test = self._measure(weights, data.test_x[: self._measured], data.test_y)
        return Measured(train[0], *test)

    def train_loss(self, weights: torch.Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return each run's loss on some training examples, shape (runs,)."""
        places = torch.from_numpy(rows)
        x, y = self._examples.train_x[places], self._examples.train_y[places]
        return self._measure(weights, x, y)[0]

    def row(self, run: int) -> dict[str, NDArray[np.float32]]:
        """Return one run's weights, tensor by tensor."""
        flat = self.weights[run].numpy()
        return {
            info.name: flat[info.offset : info.offset + info.size].reshape(info.shape).copy()
            for info in self.tensors
        }

    def _measure(
        self, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean loss and accuracy of each run."""
        y = y[: len(x)]
        loss, right = torch.zeros(len(weights), dtype=torch.float64), torch.zeros(len(weights))
        rows = max(1, _CHUNK // (4 * x[0].numel() * len(weights)))
        with torch.no_grad():
            for start in range(0, len(x), rows):
                some = y[start : start + rows]
                logits = self._outputs(weights, inputs(x[start : start + rows]))
                flat = logits.flatten(1, -2).transpose(1, 2)  # (runs, classes, examples)
                wanted = some.flatten().expand(len(weights), -1)
                loss += (
                    torch.nn.functional.cross_entropy(flat, wanted, reduction="none")
                    .sum(dim=1)
                    .double()
                )
                right += (flat.argmax(dim=1) == wanted).sum(dim=1)
        count = y.numel()
        return loss.numpy() / count, right.double().numpy() / count

    def _parameters(self, flat: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {
            info.name: flat[info.offset : info.offset + info.size].reshape(info.shape)
            for info in self.tensors
        }

    def _forward(self, flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(self._network, dict(self._parameters(flat)), (x,))
        return found

    def _loss(self, flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self._forward(flat, x), y)

    def _update(self, gradient: torch.Tensor, rate: torch.Tensor) -> None:
        """Take a step as `torch.optim` does; ``rate`` has shape (runs, 1)."""
        first, second = self._moments
        self._moment_steps += 1
        if self._optimizer.kind == "sgd":
            self.weights.sub_(rate * gradient)
        elif self._optimizer.kind == "nesterov":
            first.mul_(self._optimizer.momentum).add_(gradient)
            self.weights.sub_(rate * gradient.add(first, alpha=self._optimizer.momentum))
        else:
            first.lerp_(gradient, 0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            bias = 1 - 0.9**self._moment_steps, 1 - 0.999**self._moment_steps
            scale = second.sqrt().div_(bias[1] ** 0.5).add_(1e-8)
            self.weights.sub_(rate / bias[0] * first / scale)


class _Batches:
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


def _refuse_shared_state(recipe: Recipe) -> None:
    network = build_network(recipe.network, **recipe.network_options)
    if network_state(network) or any(isinstance(m, torch.nn.Dropout) for m in network.modules()):
        raise InputError(
            f"{recipe.name}: its network keeps running statistics or drops units at random, which "
            "runs trained side by side cannot; the loop tier takes networks without"
        )


def _placed(tensors: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Give tensors their places in a flat row."""
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
