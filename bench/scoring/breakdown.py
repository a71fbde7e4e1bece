"""Errors of parts of a network: by the kind of tensor, and from its input to its output.

A part's error is `rel_sum` over its coordinates alone, so that 1 is the last value there too. The
sums that it takes are those that the whole network's errors are made of; nothing is added up twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from weightcast.bench.scoring.metrics import WeightErrors
from weightcast.datasets.rel import RelSums
from weightcast.datasets.trajectory import TensorInfo

#: What the names of these metrics begin with; the kind, or one of `DEPTHS`, follows.
KIND, DEPTH = "rel_sum_kind_", "rel_sum_depth_"
#: A network's layers: the quarter next to its input, the half between, that next to its output.
DEPTHS = ("input", "middle", "output")
# A part's errors are read to three digits; six cost less room in a store than all.
_DIGITS = 6


def breakdown(errors: WeightErrors, tensors: Sequence[TensorInfo]) -> dict[str, float]:
    """Take one run's error apart.

    Parameters
    ----------
    errors : WeightErrors
        Of every coordinate; of none for a method that forecasts the sample only.
    tensors : sequence of TensorInfo
        The run's.

    Returns
    -------
    dict of str to float
        ``rel_sum_kind_linear`` and so on for each kind of tensor that there is, and
        ``rel_sum_depth_input``, ``…_middle`` and ``…_output`` of a network with layers of more than
        one depth. NaN for a part that moved too little to divide by.
    """
    sums = errors.by_tensor
    here = [tensor for tensor in tensors if tensor.name in sums]
    levels = sorted({tensor.depth for tensor in here})
    parts = {KIND: _merged(here, sums, lambda tensor: tensor.kind)}
    if len(levels) > 1:
        parts[DEPTH] = _merged(
            here, sums, lambda tensor: depth_part(levels.index(tensor.depth), len(levels))
        )
    return {
        f"{begin}{name}": round(part.rel_sum(), _DIGITS)
        for begin, found in parts.items()
        for name, part in found.items()
    }


def depth_part(level: int, levels: int) -> str:
    """Return which of `DEPTHS` a layer is in.

    Parameters
    ----------
    level : int
        From 0, the layer next to the input.
    levels : int
        How many there are, at least two.

    Examples
    --------
    >>> [depth_part(level, 3) for level in range(3)]
    ['input', 'middle', 'output']
    >>> [depth_part(level, 5) for level in range(5)]
    ['input', 'input', 'middle', 'output', 'output']
    """
    if 4 * level <= levels - 1:
        return "input"
    return "output" if 4 * level >= 3 * (levels - 1) else "middle"


def _merged(
    tensors: Iterable[TensorInfo],
    sums: dict[str, RelSums],
    part_of: Callable[[TensorInfo], str],
) -> dict[str, RelSums]:
    found: dict[str, RelSums] = {}
    for tensor in tensors:
        own = sums[tensor.name]
        found.setdefault(part_of(tensor), RelSums(len(own.error))).merge(own)
    return found
