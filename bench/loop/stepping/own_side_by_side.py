"""Training many runs of somebody's own network side by side, where PyTorch can stack its loss.

A loss of one's own may do anything. Whether it can be stacked is therefore tried on the first
batches: the stacked gradients must be those of the runs one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.runs import Optimizer
from weightcast.bench.loop.stepping.side_by_side import can_stand_side_by_side
from weightcast.datasets.own.examples import OwnExamples
from weightcast.datasets.recipe import Recipe

#: How far stacked gradients may be from those one by one, over their norm: rounding and no more.
_SAME = 1e-3

#: What was found of networks, by the recipe that names them.
_tried: dict[str, bool] = {}


class OwnSideBySide(OneByOne):
    """Runs whose gradients are taken together, and which are measured one by one."""

    def _prepare(self, recipe: Recipe, orders: Sequence[str]) -> None:
        super()._prepare(recipe, orders)
        assert isinstance(self.examples, OwnExamples)
        self._objective = _Objective(self.network, self.examples)
        self._stacked = vmap(grad(self._loss), in_dims=(0, 0))

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self._stacked(self.weights, x)
        return found

    def one_by_one(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the same gradients, taken in turn."""
        return super().gradients(x, y)

    def _loss(self, flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        named = {f"network.{name}": values for name, values in self.by_tensor(flat).items()}
        found: torch.Tensor = functional_call(self._objective, named, (x,))
        return found


class _Objective(torch.nn.Module):
    """A loss as a module, so that a network's parameters can be replaced inside of it."""

    def __init__(self, network: torch.nn.Module, examples: OwnExamples) -> None:
        super().__init__()
        self.network, self._examples = network, examples

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._examples.loss_on(self.network, self._examples.train, x)


def can_be_stacked(recipe: Recipe, network: torch.nn.Module) -> bool:
    """Tell whether runs of somebody's own network can be stepped together, by trying it."""
    if not can_stand_side_by_side(network):
        return False
    key = f"{recipe.hash} {recipe.code}"
    if key not in _tried:
        _tried[key] = _same_gradients(recipe)
    return _tried[key]


def _same_gradients(recipe: Recipe) -> bool:
    runs = OwnSideBySide(recipe, Optimizer("sgd"), np.zeros((2, 1)), [0, 1], ["0", "1"])
    batch = runs.batches.next()
    alone = runs.one_by_one(*batch)  # what fails here is no matter of stacking
    try:
        together = runs.gradients(*batch)
    except Exception:  # whatever PyTorch or the loss says of stacked numbers
        return False
    apart = (together - alone).norm(dim=1)
    return bool((apart <= _SAME * alone.norm(dim=1)).all())
