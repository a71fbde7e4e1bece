"""Evaluators: what a run's network does with given weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Floats, Metadata

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.images import Images


class Evaluator(Protocol):
    """Measures weights in the network and on the data of one run."""

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        """Return the loss over the training data."""

    def measure(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        """Return train and test loss and, for classifiers, accuracy."""


class NetworkEvaluator:
    """Loss and accuracy of a PyTorch classifier over whole data sets, in evaluation mode."""

    def __init__(self, network: torch.nn.Module, images: Images, *, with_test: bool = True) -> None:
        self._network = network.eval()
        self._parameters = dict(network.named_parameters())
        self._train = (images.train_x, images.train_y)
        self._test = (images.test_x, images.test_y) if with_test else None

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        """Return the mean cross-entropy over the training data."""
        self._load(weights)
        return self._loss_and_accuracy(*self._train)[0]

    def measure(self, weights: Mapping[str, Floats] | None = None) -> dict[str, float]:
        """Return train and test loss and accuracy; without weights, of the network as it is."""
        if weights is not None:
            self._load(weights)
        loss, accuracy = self._loss_and_accuracy(*self._train)
        measured = {"train_loss": loss, "train_accuracy": accuracy}
        if self._test is not None:
            measured["test_loss"], measured["test_accuracy"] = self._loss_and_accuracy(*self._test)
        return measured

    def _load(self, weights: Mapping[str, Floats]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                # The copy spares a warning: torch wants writable memory, forecasts may be views.
                parameter.copy_(torch.from_numpy(np.array(weights[name], dtype=np.float32)))

    def _loss_and_accuracy(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
        import torch

        training = self._network.training
        self._network.eval()
        with torch.no_grad():
            logits = self._network(x)
            loss = torch.nn.functional.cross_entropy(logits, y)
            accuracy = (logits.argmax(dim=1) == y).double().mean()
        self._network.train(training)
        return float(loss), float(accuracy)


def evaluator_for(meta: Metadata, *, with_test: bool = True) -> Evaluator | None:
    """Rebuild the evaluator that a run's recipe describes; None where there is no recipe."""
    if not meta.recipe:
        return None
    if meta.recipe.get("generator") == "linreg":
        from weightcast.datasets.linreg import LinearRegressionLoss

        return LinearRegressionLoss(meta.recipe, meta.seed)
    return Recipe.from_json(meta.recipe).build(with_test=with_test)[1]
