"""What a checkpoint's tensors are, guessed from their names and shapes.

Where the network itself is at hand `weightcast.datasets.networks.build.describe_tensors` knows
better. The rule, first match first:

1. ``running_mean``, ``running_var``, ``num_batches_tracked``, ``inv_freq`` and ``masked_bias`` are
   buffers, no parameters; nor is anything that is not floating-point.
2. A module with a ``running_mean``, with a one-dimensional ``weight``, or with "norm" or ``ln`` in
   its name is a norm: its one-dimensional tensors are ``norm``.
3. ``weight_ih…``, ``weight_hh…`` are ``recurrent``; ``in_proj_…`` and ``q/k/v_proj_weight`` are
   ``attention`` (PyTorch's own attention; separate projections are linear layers).
4. A name with "bias" in its last part is ``bias``.
5. A matrix in a module with "emb" in its name, or named ``wte`` or ``wpe``, is ``embedding``.
6. A matrix is ``linear``, a tensor of three dimensions or more ``conv``, anything else ``other``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from weightcast.datasets.trajectory import TensorInfo

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq", "masked_bias")

_NORM = re.compile(r"norm|(^|_)ln(_|\d|$)")
_EMBEDDING = re.compile(r"emb|^wte$|^wpe$")
_ATTENTION = re.compile(r"^in_proj_weight$|^[qkv]_proj_weight$")


def is_buffer(name: str) -> bool:
    """Say whether a name is one of the well-known floating-point buffers."""
    return name.rpartition(".")[2] in BUFFERS


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts ``layer.2`` before ``layer.10``."""
    return tuple(
        (0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part
    )


def guess_tensors(
    shapes: Mapping[str, tuple[int, ...]], buffers: set[str], tied: set[str]
) -> list[TensorInfo]:
    """Describe parameters by the rule above.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The parameters, in the order that they are to have.
    buffers : set of str
        Names of what was left out; a norm is known by its running statistics.
    tied : set of str
        Names of parameters that stand for others too.

    Returns
    -------
    list of TensorInfo
        A tensor's depth is the number of modules, by name, that come before its own.
    """
    depths: dict[str, int] = {}
    tensors = []
    for name, shape in shapes.items():
        module = name.rpartition(".")[0]
        depth = depths.setdefault(module, len(depths))
        kind = _kind(name, shape, shapes, buffers)
        tensors.append(TensorInfo(name, shape, kind, depth, 0, name if name in tied else None))
    return tensors


def _kind(
    name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], buffers: set[str]
) -> str:
    module, _, leaf = name.rpartition(".")
    label = module.rpartition(".")[2].lower()
    beside = f"{module}." if module else ""
    norm = (
        _NORM.search(label) is not None
        or len(shapes.get(f"{beside}weight", ())) == 1
        or f"{beside}running_mean" in buffers
    )
    rules = (
        (norm and len(shape) == 1, "norm"),
        (leaf.startswith(("weight_ih", "weight_hh")), "recurrent"),
        (_ATTENTION.match(leaf) is not None, "attention"),
        ("bias" in leaf, "bias"),
        (len(shape) == 2 and _EMBEDDING.search(label) is not None, "embedding"),
        (len(shape) == 2, "linear"),
        (len(shape) > 2, "conv"),
    )
    return next((kind for holds, kind in rules if holds), "other")
