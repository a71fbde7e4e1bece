"""A plugin's network as recipes ask for it: built, checked, its data read once."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.own.network import BATCH_SIZE, OwnNetwork
from weightcast.datasets.trajectory import Trajectory

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.own.examples import OwnExamples


class OwnGiven:
    """One's own network; see `weightcast.datasets.given.Given`.

    Parameters
    ----------
    name : str
        The data set's.
    own : OwnNetwork
    """

    def __init__(self, name: str, own: OwnNetwork) -> None:
        self._name, self.own = name, own

    def build(self) -> torch.nn.Module:
        import torch

        from weightcast.datasets.own.examples import users_code

        with users_code(self._name, "build()"):
            network = self.own.build()
        if not isinstance(network, torch.nn.Module):
            raise InputError(
                f"data set {self._name}: build() returned {type(network).__name__}; return a "
                "torch.nn.Module"
            )
        trained = [p for p in network.parameters() if p.requires_grad]
        if not trained:
            raise InputError(f"data set {self._name}: build() has no parameters to train")
        for parameter in trained:
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                raise InputError(
                    f"data set {self._name}: build() has parameters of {parameter.dtype} on "
                    f"{parameter.device}; float32 on the CPU is what is trained and measured here"
                )
        return network

    def examples(self) -> OwnExamples:
        return self._examples

    def check(self) -> None:
        examples, network = self.examples(), self.build()
        count = self.own.batch_size or BATCH_SIZE
        loss = examples.loss(network, examples.train_x[:count], examples.train_y[:count])
        if not loss.requires_grad:
            raise InputError(
                f"data set {self._name}: loss() does not depend on the model's parameters; call "
                "the model in it, without torch.no_grad() and without .item()"
            )

    def hold_to(self, run: Trajectory) -> None:
        """Refuse a run whose network is not the one that `build` builds.

        Raises
        ------
        InputError
            Naming the tensor.
        """
        trained, rest = self._described
        shapes = {info.name: info.shape for info in run.tensors}
        for name in [*shapes, *trained]:
            if shapes.get(name) != trained.get(name):
                raise InputError(
                    f"{run.label}: its network is not that of build(): tensor {name} is "
                    f"{_shape(shapes.get(name))} in the run and {_shape(trained.get(name))} in "
                    "build()"
                )
        for info in run.fixed.infos:
            if info.name in rest and not np.array_equal(
                rest[info.name].numpy(), run.fixed.read(info), equal_nan=True
            ):
                raise InputError(
                    f"{run.label}: its frozen tensor {info.name} has other values than in build(); "
                    "have build() give those that the run was trained with"
                )

    @property
    def coordinates(self) -> int:
        """How many trained numbers the network has."""
        return sum(math.prod(shape) for shape in self._described[0].values())

    @cached_property
    def _examples(self) -> OwnExamples:
        from weightcast.datasets.own.examples import load_own

        return load_own(self.own, self._name)

    @cached_property
    def _described(self) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.Tensor]]:
        """The shapes of what is trained, and the values of what is not."""
        from weightcast.datasets.networks.build import describe_tensors

        network = self.build()
        trained = {info.name: info.shape for info in describe_tensors(network)}
        frozen = {n: p.detach() for n, p in network.named_parameters() if not p.requires_grad}
        return trained, frozen


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
