"""A network that is tried with other weights and is afterwards what it was, to the last bit.

Measuring a loss may do more than read: batch norm moves its statistics, dropout and data loaders
draw random numbers, and functions switch to evaluation and forget to switch back. Training must not
notice any of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from weightcast.datasets import InputError
from weightcast.datasets.recording.observed import Parts, bare


class Kept:
    """A copy of what training a network changes, beside the optimizer.

    Parameters
    ----------
    model : Module
        Wrapped or bare.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = bare(model)
        with torch.no_grad():
            # Also what is frozen may be given other numbers, by a loss; that is nobody's to mend.
            self._parameters = [
                (each, each.detach().clone())
                for each in self._model.parameters()
                if each.requires_grad
            ]
        self._buffers = [(b, b.detach().clone()) for b in self._model.buffers()]

    def restore(self) -> None:
        """Give the network its numbers back."""
        with torch.no_grad():
            for now, before in (*self._parameters, *self._buffers):
                now.copy_(before)


@contextmanager
def unnoticed(model: nn.Module) -> Iterator[None]:
    """Leave random numbers and training modes as they were before a block."""
    network = bare(model)
    modes = [(module, module.training) for module in network.modules()]
    devices = {p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, mode in modes:
            module.training = mode


def load_in_place(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into a network's own, each by its bare name and in the type that it has there.

    The tensors stay the same objects, so an optimizer goes on with them. Names that the network
    lacks, further names of tied tensors among them, are passed over.

    Raises
    ------
    InputError
        If a trained parameter is missing, or has another shape.
    """
    parts = Parts.of(bare(model))
    with torch.no_grad():
        for name, parameter in parts.trained.items():
            if name not in tensors or tensors[name].shape != parameter.shape:
                found = (
                    f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
                )
                raise InputError(
                    f"the forecast's tensor {name} {found}, the network's has shape "
                    f"{list(parameter.shape)}"
                )
            parameter.copy_(tensors[name])
        for name, buffer in parts.buffers.items():
            if name in tensors:
                buffer.copy_(tensors[name])
