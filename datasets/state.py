"""What a network has beside the parameters that training changes, so that a checkpoint is whole.

Some of it changes from step to step, as batch-norm statistics do; the rest, frozen parameters and
the further names of tied ones, is the same throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The safetensors names of the types of numbers that are kept.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
#: Of those, and beside them, the floating-point types that checkpoints are written in → the type
#: that they have in memory; numpy lacks bfloat16.
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<f4"}


@dataclass(frozen=True)
class StateInfo:
    """One array that a network keeps beside its trained weights.

    Attributes
    ----------
    name : str
        The name in ``state_dict()``.
    shape : tuple of int
        The shape at one step.
    dtype : str
        The safetensors name of its type, e.g. ``"I64"``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, name: str, array: NDArray[Any]) -> StateInfo:
        """Describe an array.

        Raises
        ------
        ValueError
            If the layout has no type for it.
        """
        for code, dtype in DTYPES.items():
            if array.dtype == np.dtype(dtype):
                return cls(name, array.shape, code)
        raise ValueError(f"state {name} is {array.dtype}, which the layout has no type for")

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of its numbers in memory."""
        return np.dtype(DTYPES[self.dtype] if self.dtype in DTYPES else FLOATS[self.dtype])

    @property
    def itemsize(self) -> int:
        """Bytes of a number in a file."""
        return 2 if self.dtype == "BF16" else self.numpy.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes at one step, in a file."""
        return math.prod(self.shape) * self.itemsize

    def encode(self, values: NDArray[Any]) -> memoryview:
        """Return numbers as a file has them; to bfloat16 they are rounded half to even.

        Raises
        ------
        OverflowError
            If a finite number is beyond the type.
        """
        with np.errstate(over="ignore"):
            array = np.asarray(values, dtype=self.numpy)
        stored = array
        if self.dtype == "BF16":
            bits = np.ascontiguousarray(array).view("<u4")
            stored = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2")
            array = self.decode(bytes_of(stored))
        narrow = self.dtype in ("F16", "BF16")
        if narrow and np.isinf(array).any() and np.isfinite(values).all():
            raise OverflowError(f"tensor {self.name} has numbers beyond {self.dtype}")
        return bytes_of(stored)

    def decode(self, data: Any) -> NDArray[Any]:
        """Return what a file has as numbers in memory, flat."""
        if self.dtype == "BF16":
            # bfloat16 is float32's upper half.
            return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(data, self.numpy)


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return an array's bytes in order; of an empty one none."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.data.cast("B") if flat.size else memoryview(b"")


class Fixed:
    """What no step changes.

    Parameters
    ----------
    infos : sequence of StateInfo
        Frozen parameters.
    read : callable, optional
        Returns one of them; they may be larger than all that is trained, so none is kept.
    aliases : dict of str to str
        Further names of tied tensors → the name under which their numbers are.
    """

    def __init__(
        self,
        infos: Sequence[StateInfo] = (),
        read: Callable[[StateInfo], NDArray[Any]] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.infos = tuple(infos)
        self.aliases = dict(aliases or {})
        self._read = read

    def read(self, info: StateInfo) -> NDArray[Any]:
        """Return a frozen parameter."""
        assert self._read is not None
        return self._read(info)
