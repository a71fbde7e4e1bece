"""Copies of a network's numbers, one tensor at a time, in the order in which they are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from weightcast.datasets.errors import InputError
from weightcast.datasets.recording.file import Layout
from weightcast.datasets.recording.observed import ObservedNetwork
from weightcast.datasets.state import StateInfo

#: Types that a file has. What numpy lacks is kept as float32, which holds all its numbers.
_CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "F32",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class NotFinite(InputError):
    """Weights with NaN or infinity."""


class Snapshots:
    """Takes snapshots of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Wrapped or bare.
    frozen : bool
        Whether to keep what is not trained.

    Attributes
    ----------
    layout : Layout
    left_out : str
        What cannot be kept, in a sentence; empty where all can.

    Raises
    ------
    InputError
        If the network cannot be recorded.
    """

    def __init__(self, network: nn.Module, *, frozen: bool) -> None:
        self._network = ObservedNetwork(network)
        start = self._network.start
        kept = start.frozen if frozen else {}
        aliases = {
            name: first
            for name, first in start.aliases.items()
            if first in start.trained or _kept(start.buffers.get(first, kept.get(first)))
        }
        self.layout = Layout(
            tuple(self._network.tensors), _infos(start.buffers), _infos(kept), aliases
        )
        odd = [name for name, each in (start.buffers | kept).items() if not _kept(each)]
        self.left_out = ""
        if odd:
            types = {str((start.buffers | kept)[name].dtype) for name in odd}
            self.left_out = f"not recorded, being {', '.join(sorted(types))}: {', '.join(odd)}"

    def fixed(self) -> Iterator[NDArray[Any]]:
        """Copy what is not trained."""
        for info in self.layout.fixed:
            yield _copy(self._network.start.frozen[info.name], info)

    def take(self, step: int) -> Iterator[NDArray[Any]]:
        """Copy the weights, then the state beside them.

        Raises
        ------
        InputError
            If the network is not what it was.
        NotFinite
            If its weights are not finite.
        """
        parts = self._network.now(step)
        for tensor in self.layout.tensors:
            weights = parts.trained[tensor.name].detach().to("cpu", torch.float32).numpy()
            if not np.isfinite(weights).all():
                raise NotFinite(f"{tensor.name} has NaN or infinity")
            yield weights
        for info in self.layout.states:
            yield _copy(parts.buffers[info.name], info)


def _kept(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and tensor.dtype in _CODES and tensor.layout == torch.strided


def _infos(tensors: dict[str, torch.Tensor]) -> tuple[StateInfo, ...]:
    return tuple(
        StateInfo(name, tuple(each.shape), _CODES[each.dtype])
        for name, each in tensors.items()
        if _kept(each)
    )


def _copy(tensor: torch.Tensor, info: StateInfo) -> NDArray[Any]:
    """Bring a tensor to the CPU in the type that it had at the start."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found.astype(info.numpy, copy=False)
