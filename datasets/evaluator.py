"""Evaluators: what a run's network does with given weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.device import torch_device
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.synthetic.families import problem_loss
from weightcast.datasets.trajectory import Floats, Metadata

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.examples.examples import Examples

#: Numbers of input that go through a network at once: all digits, 167 larger images.
_CHUNK = 2**17


class Evaluator(Protocol):
    """Measures weights in the network and on the data of one run."""

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        """Return the loss over the training data."""

    def measure(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        """Return train and test loss and, for classifiers, accuracy."""


@dataclass(frozen=True)
class FirstBatches:
    """The first batches of the training data in their fixed order.

    Attributes
    ----------
    count : int
        All whole ones where there are fewer.
    size : int
        Examples in each.
    """

    count: int
    size: int


class NetworkEvaluator:
    """Loss and, of a classifier, accuracy of a PyTorch network, in evaluation mode.

    A next character is a class. What the loss is the examples say.

    Parameters
    ----------
    network : Module
    examples : Examples
    with_test : bool
        Whether to measure on the test data too.
    measured : int, optional
        Measure on so many of the first training, and of the first test examples only.
    device : {"cpu", "cuda"}
        Where: the network is moved there, examples as they are needed.

    Notes
    -----
    A network with batch norm has running statistics beside its weights, and a forecast has none.
    All weights therefore get statistics of their own, recorded ones too: the means over the
    training data that are measured, as is usual for averaged weights (Izmailov et al. 2018, arXiv
    1803.05407). What is measured thus depends on the weights alone, and a forecast is held against
    the recorded run on equal terms: running statistics lag behind and make the same weights worse,
    of ResNet-8 by up to a third of the loss. ``batches`` has the means taken over so many batches
    instead, of all the training data there are. Statistics given as ``state`` are loaded as they
    are.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        examples: Examples,
        *,
        with_test: bool = True,
        measured: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._device = torch_device(device)
        self._network = network.to(self._device).eval()
        self._parameters = {
            name: parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }
        self._buffers = network_state(network)
        self._examples = examples
        self._all_train = (examples.train_x, examples.train_y)
        self._train = (examples.train_x[:measured], examples.train_y[:measured])
        self._test = None
        if with_test and examples.has_test:
            self._test = (examples.test_x[:measured], examples.test_y[:measured])

    def train_loss(
        self,
        weights: Mapping[str, Floats],
        state: Mapping[str, NDArray[Any]] | None = None,
        batches: FirstBatches | None = None,
    ) -> float:
        """Return the mean loss over the training data; parameters are `measure`'s."""
        self._load(weights, state, batches)
        return self._measured("train", *self._train)["train_loss"]

    def measure(
        self,
        weights: Mapping[str, Floats],
        state: Mapping[str, NDArray[Any]] | None = None,
        batches: FirstBatches | None = None,
    ) -> dict[str, float]:
        """Return train and test loss and accuracy, as far as there are test data and classes.

        Parameters
        ----------
        weights : dict of str to ndarray
        state : dict of str to ndarray, optional
            All that the network keeps beside its weights.
        batches : FirstBatches, optional
            Without ``state``, what batch-norm statistics are estimated on; all the training data
            that are measured by default.
        """
        self._load(weights, state, batches)
        return self.measure_loaded()

    def measure_loaded(self) -> dict[str, float]:
        """Measure the network as it is; it is left as it was, in training mode if it was."""
        measured = self._measured("train", *self._train)
        if self._test is not None:
            measured |= self._measured("test", *self._test)
        return measured

    def _load(
        self,
        weights: Mapping[str, Floats],
        state: Mapping[str, NDArray[Any]] | None,
        batches: FirstBatches | None = None,
    ) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                # The copy spares a warning: torch wants writable memory, forecasts may be views.
                parameter.copy_(torch.from_numpy(np.array(weights[name], dtype=np.float32)))
            if state:
                for name, buffer in self._buffers.items():
                    buffer.copy_(torch.from_numpy(np.array(state[name])))
            else:
                self._estimate_statistics(batches)

    @property
    def needs_own_network(self) -> bool:
        """Whether measuring changes the network: batch norm gets other statistics."""
        return bool(batch_norms(self._network))

    def statistics(self, weights: Mapping[str, Floats]) -> dict[str, NDArray[Any]]:
        """Return the batch-norm statistics of training data under some weights."""
        self._load(weights, None)
        return {
            name: buffer.cpu().numpy().copy()
            for name, buffer in self._buffers.items()
            if is_statistic(name)
        }

    def estimated_on(self, batches: FirstBatches | None = None) -> int:
        """Return the number of examples that batch-norm statistics are estimated on."""
        return len(self._statistics_data(batches)[0])

    def _statistics_data(
        self, batches: FirstBatches | None
    ) -> tuple[torch.Tensor, torch.Tensor, int | None]:
        """Return examples and how many go through at once; None leaves that to their size."""
        if batches is None:
            return (*self._train, None)
        x, y = self._all_train
        # A short batch would count as much as a whole one, and one of a single example has no
        # variance.
        count = max(1, min(batches.count, len(x) // batches.size))
        return x[: count * batches.size], y[: count * batches.size], batches.size

    def _estimate_statistics(self, batches: FirstBatches | None) -> None:
        """Give every batch norm the mean statistics of training data under the weights."""
        import torch

        norms = batch_norms(self._network)
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        with torch.no_grad(), _evaluating(self._network):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over all chunks
                norm.train()
            for x, y in self._chunks(*self._statistics_data(batches)):
                self._examples.loss(self._network, x, y)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def _measured(self, which: str, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        """Return the mean loss and, where there are classes, the accuracy."""
        import torch

        found = {f"{which}_loss": 0.0}
        with torch.no_grad(), _evaluating(self._network):
            for some_x, some_y in self._chunks(x, y):
                loss, accuracy = self._examples.measured(self._network, some_x, some_y)
                share = some_y.numel() / y.numel()
                found[f"{which}_loss"] += loss * share
                if accuracy is not None:
                    name = f"{which}_accuracy"
                    found[name] = found.get(name, 0.0) + accuracy * share
        return found

    def _chunks(
        self, x: torch.Tensor, y: torch.Tensor, rows: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Cut examples so that what a network computes on the way stays small, and in the cache."""
        rows = rows or self._examples.at_once or max(1, _CHUNK // x[0].numel())
        for start in range(0, len(x), rows):
            x_, y_ = x[start : start + rows], y[start : start + rows]
            yield x_.to(self._device), y_.to(self._device)


def is_statistic(name: str) -> bool:
    """Say whether a buffer of this name holds batch-norm statistics."""
    return name.rpartition(".")[2] in ("running_mean", "running_var")


def network_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return what a network keeps beside its parameters: its persistent buffers, by name."""
    kept = network.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in network.named_buffers() if name in kept}


def batch_norms(network: torch.nn.Module) -> list[torch.nn.modules.batchnorm._BatchNorm]:
    """Return a network's batch norms that keep running statistics."""
    import torch

    return [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]


@contextmanager
def _evaluating(network: torch.nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def rebuild(
    recipe: Recipe, *, with_test: bool = True, device: str = "cpu"
) -> tuple[torch.nn.Module, NetworkEvaluator]:
    """Rebuild a recipe's network on a device, and what measures it there.

    The network's values are meaningless until weights are loaded. ``with_test=False`` leaves the
    test data out.

    Raises
    ------
    InputError
        If the network or the data are not known, the data have yet to be fetched, or there is no
        such device.
    """
    from weightcast.datasets.examples.load import load_examples
    from weightcast.datasets.networks.build import build_network

    network = build_network(recipe.network, **recipe.network_options)
    examples = load_examples(recipe.data, **recipe.data_options)
    return network, NetworkEvaluator(
        network, examples, with_test=with_test, measured=recipe.measured, device=device
    )


def evaluator_for(
    meta: Metadata, *, with_test: bool = True, device: str = "cpu"
) -> Evaluator | None:
    """Rebuild what measures a run's network, or None where no recipe is known.

    ``with_test=False`` leaves the test data out, for methods that may use training loss only. A
    network is measured on the device; synthetic problems need none.
    """
    if not meta.recipe:
        return None
    if "generator" in meta.recipe:
        return problem_loss(meta)
    return rebuild(Recipe.from_json(meta.recipe), with_test=with_test, device=device)[1]
