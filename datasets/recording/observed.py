"""A network while it is being trained: what of it a recorder follows, and under which names.

Names are those of the bare network, without what ``torch.compile`` and data-parallel wrappers put
before them, so that a checkpoint made of a recording loads into a network that is not wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from weightcast.datasets.errors import InputError
from weightcast.datasets.networks.build import describe_tensors
from weightcast.datasets.trajectory import TensorInfo

#: Wrapper → the attribute in which it has what it wraps, which its parameters' names begin with.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "DeepSpeedEngine": "module",
    "AveragedModel": "module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}


def bare(network: nn.Module) -> nn.Module:
    """Return what a network's wrappers wrap."""
    while (inner := _inner(network)) is not None:
        network = getattr(network, inner)
    return network


def _inner(module: nn.Module) -> str | None:
    kinds = (kind.__name__ for kind in type(module).__mro__)
    return next((_WRAPPERS[kind] for kind in kinds if kind in _WRAPPERS), None)


class Names:
    """Translates a network's names into those that it has without wrappers around its parts."""

    def __init__(self, network: nn.Module) -> None:
        self._prefixes: dict[str, str] = {}
        self._walk(network, "", "")

    def _walk(self, module: nn.Module, prefix: str, plain: str) -> None:
        self._prefixes[prefix] = plain
        inner = _inner(module)
        for name, child in module._modules.items():
            if child is not None:
                further = plain if name == inner else f"{plain}{name}."
                self._walk(child, f"{prefix}{name}.", further)

    def of(self, name: str) -> str:
        """Return a parameter's or buffer's bare name."""
        path, dot, leaf = name.rpartition(".")
        return self._prefixes.get(path + dot, path + dot) + leaf


@dataclass
class Parts:
    """A network's tensors, each list by bare name.

    Attributes
    ----------
    trained, frozen : dict of str to Parameter
        Each parameter under its first name; what is no floating-point number is frozen.
    buffers : dict of str to Tensor
        The persistent ones.
    aliases : dict of str to str
        Further names of tied tensors → their first.
    """

    trained: dict[str, torch.Tensor] = field(default_factory=dict)
    frozen: dict[str, torch.Tensor] = field(default_factory=dict)
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> Parts:
        """Look at a bare network as it is now."""
        names, parts = Names(network), cls()
        first: dict[int, str] = {}
        for name, tensor in _named(network):
            plain = names.of(name)
            if id(tensor) in first:
                parts.aliases[plain] = first[id(tensor)]
                continue
            first[id(tensor)] = plain
            if not isinstance(tensor, nn.Parameter):
                parts.buffers[plain] = tensor
            elif tensor.requires_grad and torch.is_floating_point(tensor):
                parts.trained[plain] = tensor
            else:
                parts.frozen[plain] = tensor
        return parts


def _named(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Walk parameters, then persistent buffers, tied ones under each of their names."""
    yield from network.named_parameters(remove_duplicate=False)
    kept = network.state_dict(keep_vars=True).keys()
    for name, buffer in network.named_buffers(remove_duplicate=False):
        if name in kept:
            yield name, buffer


def check_recordable(network: nn.Module) -> None:
    """Refuse a network that has no numbers of its own to record.

    Raises
    ------
    InputError
        Naming the parameter.
    """
    for name, tensor in _named(network):
        if nn.parameter.is_lazy(tensor):
            raise InputError(f"{name} has no shape yet; run a batch through the network first")
        if type(tensor).__name__ == "DTensor" or hasattr(tensor, "ds_id"):
            raise InputError(f"{name} is sharded over processes, which cannot be recorded")
        if tensor.is_meta:
            raise InputError(f"{name} is on the meta device; give the network its weights first")


class ObservedNetwork:
    """A network whose trained parameters stay the same ones throughout.

    Parameters
    ----------
    network : torch.nn.Module
        Wrapped or bare.

    Attributes
    ----------
    tensors : list of TensorInfo
        What is trained at the start, by bare name.
    start : Parts
        What was there at the start; the tensors in it are those of today.

    Raises
    ------
    InputError
        If nothing is trained, or it has no numbers of its own to record.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(network).__name__}")
        self._network = bare(network)
        check_recordable(self._network)
        names = Names(self._network)
        self.start = Parts.of(self._network)
        self.tensors: list[TensorInfo] = [
            replace(info, name=names.of(info.name), tied=info.tied and names.of(info.tied))
            for info in describe_tensors(self._network)
        ]
        if not self.tensors:
            raise InputError("the model has no trained floating-point parameter to record")
        self._shapes = {name: _shape(b, "") for name, b in self.start.buffers.items()}

    def now(self, step: int) -> Parts:
        """Return the network's tensors, which must be those of the start.

        A parameter that is frozen later is still followed.

        Raises
        ------
        InputError
            Naming what was added, unfrozen, removed, reshaped, tied or untied.
        """
        parts = Parts.of(self._network)
        parts.trained |= {
            info.name: parts.frozen.pop(info.name)
            for info in self.tensors
            if info.name in parts.frozen
        }
        if change := self._change(parts):
            raise InputError(f"{change} at step {step}; a trajectory needs a network that stays")
        return parts

    def _change(self, parts: Parts) -> str:
        """Say what is not as it was at the start; nothing where all is."""
        then = "at the first snapshot and is"
        for name, _ in sorted(parts.aliases.items() ^ self.start.aliases.items()):
            before, tied = (each.aliases.get(name, "nothing") for each in (self.start, parts))
            return f"{name} was tied to {before} {then} tied to {tied}"
        for info in self.tensors:
            found = parts.trained.get(info.name)
            if found is None or tuple(found.shape) != info.shape:
                said = _shape(found, "gone")
                return f"parameter {info.name} was {list(info.shape)} {then} {said}"
        for name in sorted(parts.trained.keys() - self.start.trained.keys()):
            was = "frozen" if name in self.start.frozen else "not there"
            return f"parameter {name} was {was} {then} trained"
        for name in sorted(self._shapes.keys() | parts.buffers.keys()):
            was, now = self._shapes.get(name, "not there"), _shape(parts.buffers.get(name), "gone")
            if was != now:
                return f"buffer {name} was {was} {then} {now} (persistent=False leaves it out)"
        return ""


def _shape(tensor: torch.Tensor | None, without: str) -> str:
    return without if tensor is None else f"{list(tensor.shape)}"
