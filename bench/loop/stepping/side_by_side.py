"""Training many runs of one small network side by side.

A step of a small network spends its time on starting operations, not on numbers. Runs that differ
in seed and learning rate alone are therefore stacked and stepped together (`torch.func.vmap`). That
changes nothing beyond rounding, which may still decide a tie in a pooling layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, grad, vmap

from weightcast.bench.loop.stepping.runs import Measured, TrainingRuns
from weightcast.datasets.evaluator import network_state
from weightcast.datasets.examples.examples import cross_entropy, inputs
from weightcast.datasets.recipe import Recipe

#: Bytes of inputs that go through all networks at once while losses are measured.
_CHUNK = 2**22


def can_stand_side_by_side(network: torch.nn.Module) -> bool:
    """Tell whether runs of a network can be stacked.

    Not where it keeps running statistics, which would be those of all runs, nor where it drops
    units at random, which would be the same ones in all; and PyTorch has no stacked form of its
    recurrent layers.
    """
    alone = (torch.nn.modules.dropout._DropoutNd, torch.nn.RNNBase)
    return not network_state(network) and not any(isinstance(m, alone) for m in network.modules())


class SideBySide(TrainingRuns):
    """Runs of one recipe's network, stepped together; parameters are those of `TrainingRuns`."""

    def _prepare(self, recipe: Recipe, orders: Sequence[str]) -> None:
        self._gradient = vmap(grad(self._loss), in_dims=(0, 0, 0))
        self._outputs = vmap(self._forward, in_dims=(0, None))

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._gradient(self.weights, x, y)
        return found

    def measure(self, weights: torch.Tensor) -> Measured:
        data = self.examples
        train = self._measure(weights, data.train_x[: self.measured], data.train_y)
        test = self._measure(weights, data.test_x[: self.measured], data.test_y)
        return Measured(train[0], *test)

    def train_loss(self, weights: torch.Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        indices = torch.from_numpy(rows)
        x, y = self.examples.train_x[indices], self.examples.train_y[indices]
        return self._measure(weights, x, y)[0]

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

    def _forward(self, flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(self.network, self.by_tensor(flat), (x,))
        return found

    def _loss(self, flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self._forward(flat, x), y)
