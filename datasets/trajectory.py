"""The Trajectory: one training run's weights at recorded steps.

A trajectory is read, never held: every access names a tensor, some snapshots and a range of
coordinates, and a `Source` copies just those numbers out. A file of many gigabytes and an array in
memory therefore look the same, and whoever walks the coordinates in `blocks` needs memory for one
block only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.state import Fixed

Floats = NDArray[np.float32]
#: What a network keeps beside its trained weights, by name: batch-norm statistics, say.
State = dict[str, NDArray[Any]]

#: Bytes of one block of coordinates, all its snapshots together.
BLOCK_BYTES = 16 * 2**20

KINDS = ("linear", "conv", "bias", "norm", "embedding", "attention", "recurrent", "other")


@dataclass(frozen=True)
class TensorInfo:
    """One named parameter tensor.

    Attributes
    ----------
    name : str
        The name in ``named_parameters()``.
    shape : tuple of int
        The shape at one step.
    kind : str
        One of `KINDS`.
    depth : int
        How many parametrised modules come before this tensor's.
    offset : int
        Index of its first coordinate in the flat view of all tensors.
    tied : str or None
        A name shared by all tensors tied to each other.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "other"
    depth: int = 0
    offset: int = 0
    tied: str | None = None

    @property
    def size(self) -> int:
        """Coordinates in the tensor."""
        return math.prod(self.shape)


class Block(NamedTuple):
    """A run of consecutive coordinates of one tensor.

    ``values`` has shape (k, c): k snapshots, c coordinates. The buffer is reused for the next
    block, so copy what has to outlive the loop.
    """

    tensor: TensorInfo
    start: int
    values: Floats


class NotFinite(NamedTuple):
    """The first snapshot of a run with a number that is not finite."""

    run: str
    tensor: str
    snapshot: int
    step: int

    def __str__(self) -> str:
        return f"{self.run}: tensor {self.tensor} has NaN or infinity at step {self.step}"

    @property
    def usable(self) -> str:
        """What a forecast can be made from."""
        if self.snapshot < 2:
            return "nothing before it can be forecast from"
        most = self.snapshot - 1
        return f"forecasts can take --context {f'1 to {most}' if most > 1 else 1}"


class Source(Protocol):
    """Where the numbers lie."""

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        """Fill ``out`` (c,) with the tensor's coordinates from ``start`` on, at one snapshot."""


class StateSource(Protocol):
    """Where the state lies that a network keeps beside its trained weights."""

    def read_state(self, snapshot: int) -> State:
        """Return all state at one snapshot, each array in its own shape and dtype."""


class OrdinaryCheckpoint(Protocol):
    """A checkpoint that a training program wrote, as far as a forecast of it asks.

    Attributes
    ----------
    types : dict of str to str
        What safetensors calls the type of each tensor, by the network's own name.
    folder : Path
    """

    @property
    def types(self) -> dict[str, str]: ...

    @property
    def folder(self) -> Path: ...

    def state(self, name: str) -> NDArray[Any] | None:
        """Return a tensor; None where numpy has no such type."""


class MemorySource:
    """Arrays in memory, each (T, *shape) float32."""

    def __init__(self, arrays: Mapping[str, Floats]) -> None:
        self._flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        out[:] = self._flat[tensor.name][snapshot, start : start + len(out)]


@dataclass(frozen=True)
class Metadata:
    """What is known of a run besides its weights. Losses and accuracies have one entry a snapshot.

    Attributes
    ----------
    dataset : str
        The data set that the run belongs to.
    seed : int
        The run's seed.
    recipe : dict
        How the run was trained; `weightcast.datasets.recipe.Recipe` reads it for recorded sets.
    data : str
        SHA-256 of what it was trained and measured on; empty where that is not known.
    pretrained : str
        For a fine-tune, the weights that it really started from; empty for a random start.
    learning_rates : sequence of float
        One entry a step, to the last recorded step.
    optimizer : str
    hyperparameters : dict
        The optimizer's, the learning rate apart.
    truth : dict
        For synthetic sets, what is known in closed form (the optimum, say).
    not_finite_from : int, optional
        The first step at which a recorder found NaN or infinity among the weights. Such snapshots
        are left out.
    jumps : tuple of int
        Steps after whose snapshot something else than the optimizer moved the weights, to a
        forecast of them say.
    """

    dataset: str
    seed: int
    recipe: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    pretrained: str = ""
    optimizer: str = "unknown"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    train_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    test_loss: tuple[float, ...] = ()
    test_accuracy: tuple[float, ...] = ()
    seconds_per_step: float | None = None
    flops_per_step: int | None = None
    source: str = ""
    licence: str = ""
    truth: dict[str, Any] = field(default_factory=dict)
    not_finite_from: int | None = None
    jumps: tuple[int, ...] = ()


class Trajectory:
    """One run's weights over its recorded steps.

    Parameters
    ----------
    source : Source
        Where the numbers are read from.
    tensors : sequence of TensorInfo
        In ``named_parameters()`` order; offsets are set here.
    steps : sequence of int, shape (T,)
        The optimizer step of each snapshot, strictly increasing, unevenly spaced if need be.
    meta : Metadata
    state : StateSource, optional
        Where `state` is read from.
    fixed : Fixed, optional

    Attributes
    ----------
    fixed : Fixed
        What the network has that no step changes: frozen parameters, further names of tied ones.
        No coordinates either, and not in the content hash.

    Raises
    ------
    InputError
        If the steps do not increase or a tensor is named twice.
    """

    def __init__(
        self,
        source: Source,
        tensors: Sequence[TensorInfo],
        steps: Sequence[int],
        meta: Metadata,
        state: StateSource | None = None,
        fixed: Fixed | None = None,
    ) -> None:
        placed, offset = [], 0
        for info in tensors:
            placed.append(
                TensorInfo(info.name, tuple(info.shape), info.kind, info.depth, offset, info.tied)
            )
            offset += info.size
        self.tensors: tuple[TensorInfo, ...] = tuple(placed)
        self.steps: NDArray[np.int64] = _whole(steps)
        self.meta = meta
        self.n_coordinates = offset
        self._source = source
        self._state = state
        self.fixed = fixed or Fixed()
        self._by_name = {info.name: info for info in self.tensors}
        if len(self._by_name) != len(self.tensors):
            raise InputError(f"{self.label}: two tensors have the same name")
        if len(self.steps) == 0 or np.any(np.diff(self.steps) <= 0):
            raise InputError(f"{self.label}: its steps must increase from snapshot to snapshot")

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Floats],
        steps: Sequence[int],
        meta: Metadata,
        tensors: Sequence[TensorInfo] | None = None,
    ) -> Trajectory:
        """Make a trajectory of arrays in memory, each (T, *shape) float32."""
        infos = tensors or [TensorInfo(name, array.shape[1:]) for name, array in arrays.items()]
        for name, array in arrays.items():
            if array.dtype != np.float32 or len(array) != len(steps):
                raise InputError(
                    f"tensor {name} is {array.dtype} with {len(array)} snapshots; "
                    f"float32 with {len(steps)} is needed"
                )
        return cls(MemorySource(arrays), infos, steps, meta)

    @property
    def label(self) -> str:
        """Data set and seed, for messages."""
        return f"{self.meta.dataset}/{self.meta.seed}"

    @property
    def file(self) -> Path | None:
        """The one file that holds all of it; None where it is in memory or in several."""
        return self.files[0] if len(self.files) == 1 else None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from; none where it is in memory."""
        return tuple(getattr(self._source, "files", ()))

    @property
    def n_snapshots(self) -> int:
        """Number of recorded snapshots, w_0 included."""
        return len(self.steps)

    def tensor_info(self, name: str) -> TensorInfo:
        """Return the tensor's description, by name."""
        return self._by_name[name]

    def read(
        self,
        tensor: TensorInfo,
        snapshots: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Read some coordinates of a tensor at some snapshots.

        Parameters
        ----------
        tensor : TensorInfo
        snapshots : sequence of int, optional
            Indices into `steps`; all by default.
        start, stop : int
            The range of coordinates within the flattened tensor.
        out : ndarray, shape (k, c), optional
            A buffer to fill instead of a new array.

        Returns
        -------
        ndarray, shape (k, c), float32
        """
        rows = range(self.n_snapshots) if snapshots is None else snapshots
        stop = tensor.size if stop is None else stop
        if out is None:
            out = np.empty((len(rows), stop - start), dtype=np.float32)
        for row, snapshot in enumerate(rows):
            self._source.read_into(tensor, int(snapshot), start, out[row])
        return out

    def snapshot(self, index: int) -> dict[str, Floats]:
        """Return all tensors at one snapshot, each in its own shape."""
        return {
            info.name: self.read(info, [index % self.n_snapshots])[0].reshape(info.shape)
            for info in self.tensors
        }

    def state(self, index: int) -> State:
        """Return what the network kept beside its trained weights at one snapshot; often nothing.

        Batch-norm statistics, for one. Nobody forecasts them: they are no coordinates, appear in
        no block and do not enter the content hash.
        """
        return {} if self._state is None else self._state.read_state(index % self.n_snapshots)

    def checkpoint(self, index: int) -> OrdinaryCheckpoint | None:
        """Return the checkpoint that a snapshot is read from; None where it is no ordinary one."""
        opened = getattr(self._source, "checkpoint", None)
        return None if opened is None else cast(OrdinaryCheckpoint, opened(index % len(self.steps)))

    def initial(self) -> dict[str, Floats]:
        """Return the run's very first snapshot; in a window, that of the run it was cut from."""
        return self.snapshot(0)

    def blocks(
        self, snapshots: Sequence[int] | None = None, max_bytes: int = BLOCK_BYTES
    ) -> Iterator[Block]:
        """Walk all coordinates in blocks of at most ``max_bytes``, none straddling two tensors.

        Yields
        ------
        Block
            Its ``values`` (k, c) are valid until the next block is asked for.
        """
        rows = list(range(self.n_snapshots)) if snapshots is None else list(snapshots)
        for info, start, stop in block_ranges(self.tensors, len(rows), max_bytes):
            # A fresh allocation a block would do as well for correctness; reusing one keeps the
            # resident memory at one block however large the file is.
            width = stop - start
            if start == 0:
                buffer = np.empty(len(rows) * width, dtype=np.float32)
            values = buffer[: len(rows) * width].reshape(len(rows), width)
            yield Block(info, start, self.read(info, rows, start, stop, out=values))

    def content_hash(self) -> str:
        """SHA-256 over names, shapes, steps and tensor bytes; no state, nothing else enters it."""
        digest = hashlib.sha256(self.steps.astype("<i8").tobytes())
        for info in self.tensors:
            digest.update(f"\0{info.name}\0{info.shape}\0".encode())
            for snapshot in range(self.n_snapshots):
                for _, start, stop in block_ranges([info], 1, BLOCK_BYTES):
                    values = self.read(info, [snapshot], start, stop)
                    digest.update(values.astype("<f4", copy=False).data)
        return digest.hexdigest()

    def verify(self) -> bool:
        """Compare all bytes with the checksums in the run's file; false where it has none.

        Raises
        ------
        InputError
            Naming the first tensor whose bytes are not those that were written.
        """
        verify = getattr(self._source, "verify", None)
        return verify is not None and bool(verify(self.tensors, self.n_snapshots))

    def first_not_finite(self) -> NotFinite | None:
        """Read snapshot by snapshot up to the first with NaN or infinity; None where none has."""
        for snapshot, step in enumerate(self.steps.tolist()):
            for info, start, stop in block_ranges(self.tensors, 1, BLOCK_BYTES):
                if not np.isfinite(self.read(info, [snapshot], start, stop)).all():
                    return NotFinite(self.label, info.name, snapshot, step)
        return None

    def check_finite(self) -> None:
        """Read everything once and refuse NaN and infinity.

        Raises
        ------
        InputError
            Naming the first step with a number that is not finite, and its tensor.
        """
        if found := self.first_not_finite():
            raise InputError(f"{found}; record the run again or leave it out")


def _whole(steps: Sequence[int]) -> NDArray[np.int64]:
    try:
        return np.asarray(steps, dtype=np.int64)
    except OverflowError:
        raise InputError(f"step {max(steps)} is beyond 2^63; no run has as many") from None


def block_ranges(
    tensors: Sequence[TensorInfo], snapshots: int, max_bytes: int
) -> Iterator[tuple[TensorInfo, int, int]]:
    """Cut tensors into (tensor, start, stop) so that ``snapshots`` float32 rows fit the budget."""
    width = max(1, max_bytes // (4 * max(1, snapshots)))
    for info in tensors:
        for start in range(0, info.size, width):
            yield info, start, min(start + width, info.size)
