"""Training runs of one network one after the other, step by step.

For networks that cannot be stacked: with batch norm, dropout or recurrent layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from weightcast.bench.loop.stepping.runs import Measured, TrainingRuns
from weightcast.datasets.evaluator import NetworkEvaluator, batch_norms
from weightcast.datasets.examples.examples import inputs
from weightcast.datasets.networks.build import build_network
from weightcast.datasets.recipe import Recipe


class OneByOne(TrainingRuns):
    """Runs of one recipe's network, stepped in turn; parameters are those of `TrainingRuns`.

    Notes
    -----
    Batch norms train on the statistics of their batch. Whatever is measured, the moving average
    too, gets statistics of its own, estimated on the training data that are measured: the running
    ones would be those of weights that a jump has left. What dropout drops depends on the run's
    order of batches and the step, not on which other runs are trained with it.
    """

    def _prepare(self, recipe: Recipe, orders: Sequence[str]) -> None:
        self.network.train()
        self._trained = dict(self.network.named_parameters())
        self._noise = [recipe.random_seed(0, f"loop dropout {order}") for order in orders]
        self._evaluator = NetworkEvaluator(
            build_network(recipe.network, **recipe.network_options),
            self.examples,
            measured=self.measured,
        )

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found = torch.empty_like(self.weights)
        for run, flat in enumerate(self.weights):
            parameters = self._hand_over(flat)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._noise[run] + self.steps_done)
                loss = self.examples.loss(self.network, x[run], y[run])
            # A model may have parameters that its output does not depend on.
            each = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            torch.cat([one.reshape(-1) for one in each], out=found[run])
        return found

    def measure(self, weights: torch.Tensor) -> Measured:
        found = [
            self._evaluator.measure({name: t.numpy() for name, t in self.by_tensor(flat).items()})
            for flat in weights
        ]
        return Measured(
            *(
                np.array([one.get(name, np.nan) for one in found])
                for name in ("train_loss", "test_loss", "test_accuracy")
            )
        )

    def train_loss(self, weights: torch.Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        indices = torch.from_numpy(rows)
        x, y = inputs(self.examples.train_x[indices]), self.examples.train_y[indices]
        # As in training, but for dropout: the batch's own statistics, one forward pass.
        self.network.eval()
        for norm in batch_norms(self.network):
            norm.train()
        losses = []
        with torch.no_grad():
            for flat in weights:
                self._hand_over(flat)
                losses.append(float(self.examples.loss(self.network, x, y)))
        self.network.train()
        return np.array(losses)

    def _hand_over(self, flat: torch.Tensor) -> list[torch.nn.Parameter]:
        """Give the network a run's weights, as views: they stay where they are."""
        parameters = []
        for name, values in self.by_tensor(flat).items():
            self._trained[name].data = values
            parameters.append(self._trained[name])
        return parameters
