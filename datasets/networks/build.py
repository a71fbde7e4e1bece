"""The networks that recipes train, and what their tensors are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.given import GIVEN, given_by
from weightcast.datasets.networks.attention import (
    CharacterTransformer,
    QueryKeyValue,
    RowTransformer,
)
from weightcast.datasets.networks.convolutional import cnn, resnet
from weightcast.datasets.networks.recurrent import RowLstm
from weightcast.datasets.trajectory import TensorInfo


def mlp(sizes: Sequence[int]) -> nn.Module:
    """Build a ReLU perceptron on flattened input, e.g. sizes (64, 32, 10)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if index:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(fan_in, fan_out))
    return nn.Sequential(*layers)


def _sequence_classifier(**options: Any) -> nn.Module:
    from weightcast.datasets.networks.pretrained import sequence_classifier

    return sequence_classifier(**options)


def _given(dataset: str) -> nn.Module:
    return given_by(dataset).build()


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "row-lstm": RowLstm,
    "row-transformer": RowTransformer,
    "character-transformer": CharacterTransformer,
    "sequence-classifier": _sequence_classifier,
    GIVEN: _given,
}

_KINDS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.MultiheadAttention, QueryKeyValue), "attention"),
    ((nn.Embedding,), "embedding"),
    ((nn.RNNBase,), "recurrent"),
    ((nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm), "norm"),
    ((nn.modules.conv._ConvNd,), "conv"),
    ((nn.Linear,), "linear"),
)


def build_network(name: str, **options: Any) -> nn.Module:
    """Build a network by name.

    Raises
    ------
    InputError
        If the name is not known, the message lists the choices; or if an option is not.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    try:
        return NETWORKS[name](**options)
    except TypeError as error:
        raise InputError(f"network {name}: {error}") from None


def describe_tensors(network: nn.Module) -> list[TensorInfo]:
    """Describe a network's trained floating-point parameters in ``named_parameters()`` order.

    Parameters that are one object under several names are listed once, under the first, with that
    name as their tied group.
    """
    kinds: dict[str, tuple[str, int]] = {}
    depth = 0
    for path, module in network.named_modules():
        own = list(module.named_parameters(recurse=False))
        if not own:
            continue
        kind = next((kind for types, kind in _KINDS if isinstance(module, types)), "other")
        for leaf, _ in own:
            name = f"{path}.{leaf}" if path else leaf
            # A norm's shift moves as its scale does; other biases form a kind of their own.
            kinds[name] = ("bias" if "bias" in leaf and kind != "norm" else kind, depth)
        depth += 1
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    tensors = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and torch.is_floating_point(parameter):
            kind, depth = kinds[name]
            tied = name if len(names[id(parameter)]) > 1 else None
            tensors.append(TensorInfo(name, tuple(parameter.shape), kind, depth, 0, tied))
    return tensors
