"""Data of one's own, read once: every tensor of all batches laid end to end, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from weightcast.datasets.errors import InputError
from weightcast.datasets.own.network import Batch

#: Examples that are read at once where data come one by one.
_AT_ONCE = 64


@dataclass(frozen=True)
class Rows:
    """Examples: a batch of them all.

    Attributes
    ----------
    batch : Batch
        Each of its tensors has one row an example.
    count : int
    loader_batch : int or None
        How many examples the loader hands over at once, where they came from one.
    """

    batch: Batch
    count: int
    loader_batch: int | None = None

    def at(self, rows: torch.Tensor) -> Batch:
        """Return some examples as a batch; ``rows`` (b,) are their numbers."""
        return _mapped(lambda tensor: tensor[rows], self.batch)

    @property
    def widest(self) -> int:
        """Numbers in one example."""
        return max(1, sum(t.numel() // max(1, self.count) for _, t in _tensors(self.batch)))

    def hash_into(self, digest: Any) -> None:
        """Feed names, types, shapes and bytes of every tensor to a hash."""
        for name, tensor in _tensors(self.batch):
            digest.update(f"\0{name}\0{tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read_rows(data: Any, what: str) -> Rows:
    """Read data of one's own.

    Parameters
    ----------
    data : DataLoader, Dataset, list of batches, or tuple or dict of tensors
    what : str
        What gives them, for messages.

    Raises
    ------
    InputError
        If they are something else, are empty, or their shapes do not fit together.
    """
    loader_batch = None
    if isinstance(data, torch.Tensor | np.ndarray | tuple | Mapping):
        batches: list[Batch] = [data]
    elif isinstance(data, torch.utils.data.DataLoader | torch.utils.data.Dataset):
        loader_batch = getattr(data, "batch_size", None)
        batches = list(_in_order(data))
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        batches = list(data)
    else:
        raise InputError(
            f"{what} returned {type(data).__name__}; return a DataLoader, a Dataset, a list of "
            "batches, or a tuple of tensors"
        )
    if not batches:
        raise InputError(f"{what} returned no batches")
    parts = [dict(_tensors(_as_tensors(batch, what))) for batch in batches]
    for part in parts:
        _refuse_odd(part, parts[0], what)
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    count = len(next(iter(whole.values()), ()))
    if count == 0:
        raise InputError(f"{what} returned no examples")
    return Rows(_renamed(_as_tensors(batches[0], what), whole), count, loader_batch)


def hash_of(*parts: Rows | None) -> str:
    """Return the SHA-256 of some rows."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"\0part\0")
        if part is not None:
            part.hash_into(digest)
    return digest.hexdigest()


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Let code that draws from global generators draw the same in every process."""
    import random

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _in_order(data: Any) -> Iterable[Batch]:
    """Read a loader's data in their order, in this process, the last short batch too."""
    if not isinstance(data, torch.utils.data.DataLoader):
        return torch.utils.data.DataLoader(data, batch_size=_AT_ONCE)
    return torch.utils.data.DataLoader(
        data.dataset, batch_size=data.batch_size or _AT_ONCE, collate_fn=data.collate_fn
    )


def _as_tensors(batch: Any, what: str) -> Batch:
    """Return a batch of tensors alone, with numpy's arrays made tensors."""
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(np.ascontiguousarray(batch))
        batch = batch.float() if batch.dtype == torch.float64 else batch
    if isinstance(batch, torch.Tensor):
        if batch.ndim == 0:
            raise InputError(f"{what}: a batch holds a scalar; its tensors need a row an example")
        return batch.detach().cpu()
    if isinstance(batch, Mapping):
        return {str(key): _as_tensors(value, what) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_as_tensors(value, what) for value in batch)
    raise InputError(
        f"{what}: a batch holds {type(batch).__name__}; a batch is a tensor, or a tuple or "
        "dictionary of tensors"
    )


def _refuse_odd(
    part: Mapping[str, torch.Tensor], first: Mapping[str, torch.Tensor], what: str
) -> None:
    if part.keys() != first.keys():
        raise InputError(f"{what}: its batches differ in what they hold")
    lengths = {len(tensor) for tensor in part.values()}
    if len(lengths) > 1:
        raise InputError(
            f"{what}: the tensors of a batch have {', '.join(map(str, sorted(lengths)))} rows; "
            "they need one row an example each"
        )
    for name, tensor in part.items():
        if tensor.shape[1:] != first[name].shape[1:] or tensor.dtype != first[name].dtype:
            raise InputError(
                f"{what}: examples are {first[name].dtype} {tuple(first[name].shape[1:])} in one "
                f"batch and {tensor.dtype} {tuple(tensor.shape[1:])} in another; pad them to one "
                "shape"
            )


def _tensors(batch: Batch, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a batch, under a name that says where it is."""
    if isinstance(batch, torch.Tensor):
        yield name, batch
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from _tensors(value, f"{name}/{key}")
    else:
        for index, value in enumerate(batch):
            yield from _tensors(value, f"{name}/{index}")


def _mapped(function: Callable[[torch.Tensor], torch.Tensor], batch: Batch) -> Batch:
    """Do something to every tensor of a batch."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: _mapped(function, value) for key, value in batch.items()}
    return tuple(_mapped(function, value) for value in batch)


def _renamed(batch: Batch, whole: Mapping[str, torch.Tensor]) -> Batch:
    """Put other tensors in the places of a batch's, in their order."""
    values = iter(whole.values())
    return _mapped(lambda _: next(values), batch)
