"""The class that a plugin derives from: one's own network, and what it learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: A batch as the data give it: a tensor, or a tuple or dictionary of tensors.
Batch = Any
#: Examples in a batch where a class does not say.
BATCH_SIZE = 32


class OwnNetwork:
    """One's own network; derive from it and register the class by `register_dataset`.

    `build` with `train` (and, where the usual losses are not meant, `loss`), or `build` with a
    `loss` of the model alone, give all tiers. Without them the data set has the tier ``weights``.

    Attributes
    ----------
    runs : str, Path or sequence of them
        Recorded runs: a folder of trajectories, or files, relative to the plugin's file. By default
        they lie in the data folder, ``NAME/SEED.safetensors``, where ``weightcast record`` puts
        them.
    seeds : int or sequence of int
        How many runs there are, or which, where ``runs`` does not say so.
    learning_rate : float, optional
        The schedule's highest. With ``steps`` it lets ``weightcast record`` train the runs.
    steps : int, optional
        Optimizer steps in all.
    snapshot_every : int, optional
        Steps between snapshots; by default a sixtieth of them all.
    optimizer : str
        ``"sgd"``, ``"adam"`` or ``"adamw"``.
    hyperparameters : mapping
        Passed on to the optimizer.
    batch_size : int, optional
        32 by default. Where a `DataLoader` has another, it must be said.
    schedule, schedule_options
        As in `weightcast.datasets.recipe.Recipe`.
    measured : int, optional
        Measure on so many of the first training, and of the first test examples; on all by default.
    source, licence : str
        Of the data.
    track : str
        ``"fine-tune"`` where runs share a pretrained start.
    """

    runs: str | Path | Sequence[str | Path] = ()
    seeds: int | Sequence[int] = 12
    learning_rate: float | None = None
    steps: int | None = None
    snapshot_every: int | None = None
    optimizer: str = "sgd"
    hyperparameters: Mapping[str, Any] = {}
    batch_size: int | None = None
    schedule: str = "constant"
    schedule_options: Mapping[str, Any] = {}
    measured: int | None = None
    source: str = "the user's own"
    licence: str = "the user's own"
    track: str = "main"

    def build(self) -> torch.nn.Module:
        """Build the network; each call has random weights of its own."""
        raise NotImplementedError

    def train(self) -> Any:
        """Return the training data.

        Returns
        -------
        DataLoader, Dataset, list of batches, or tuple or dict of tensors
            They are read once, in their order, and kept in memory. A tuple or a dict of tensors
            holds all examples; a list holds batches.
        """
        raise NotImplementedError

    def test(self) -> Any:
        """Return test data, in a form of `train`; None where there are none."""
        return None

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean loss on a batch, to be differentiated.

        By default a batch is (inputs, targets), and the loss the cross-entropy at whole-numbered
        targets, the mean squared error at others. Without `train` it is called with the model
        alone.
        """
        inputs, targets = batch
        return usual_loss(model(inputs), targets)

    def accuracy(self, model: torch.nn.Module, batch: Batch) -> float:
        """Return the share of a batch that is classified rightly.

        Needed where `loss` is one's own; without it there are no accuracies then.
        """
        raise NotImplementedError


def usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy at whole-numbered targets, the mean squared error at others."""
    from torch.nn import functional

    if targets.is_floating_point():
        return functional.mse_loss(outputs.reshape(targets.shape), targets)
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def gives(own: OwnNetwork, name: str) -> bool:
    """Whether a class has a method of its own in place of the base's."""
    return getattr(type(own), name) is not getattr(OwnNetwork, name)


def has_data(own: OwnNetwork) -> bool:
    """Whether the loss is of batches of data, and not of the model alone."""
    return gives(own, "train")


def what_is_missing(own: OwnNetwork) -> str:
    """Say what a class must give that the tiers function and loop can be had; nothing mostly."""
    network = gives(own, "build")
    if network and (gives(own, "train") or gives(own, "loss")):
        return ""
    if network:
        return "gives build() but neither train() nor loss()"
    return "gives no build() and loss()" if not gives(own, "loss") else "gives no build()"
