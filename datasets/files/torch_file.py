"""The tensors of a file of ``torch.save``, memory-mapped, opened with ``weights_only=True``.

Nothing else is ever unpickled: a checkpoint from the network must not be able to run code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign
from weightcast.datasets.files.state_dict import find_state_dict, state_dict_at
from weightcast.datasets.files.tensor_file import Entry
from weightcast.datasets.files.torch_archive import (
    refuse_damaged,
    refuse_misplaced,
    storage_records,
)
from weightcast.datasets.trajectory import Floats

if TYPE_CHECKING:
    import torch

_WHAT = "a file of tensors"
_ALONE = "save the network's alone with torch.save, or name it with weightcast import --key"


class TorchFile:
    """A file that ``torch.save`` wrote: a state dict, bare, under a usual name or a given key."""

    light: bool = False

    def __init__(self, path: Path, key: str = "") -> None:
        self.path = path
        with foreign(path, _WHAT):
            loaded = _load(path)
        with foreign(path, "a checkpoint with one state dict", _ALONE):
            self._tensors = state_dict_at(loaded, key) if key else find_state_dict(loaded)
            # Others count "global_step" as they like; in Lightning it is the optimizer's.
            step = loaded.get("global_step") if "pytorch-lightning_version" in loaded else None
            self.step = step if type(step) is int and 0 <= step < 2**63 else None
            self.entries = _entries(self._tensors)

    def read_into(self, name: str, start: int, out: Floats) -> None:
        import torch

        tensor = self._tensors[name].detach()
        with foreign(self.path, _WHAT):
            flat = tensor.reshape(-1)[start : start + len(out)]
            torch.from_numpy(out).copy_(flat)

    def array(self, name: str) -> NDArray[Any]:
        import torch

        tensor = self._tensors[name].detach()
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"numpy has no {tensor.dtype}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError("the file has fewer bytes than the tensor")
        found: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return found.copy()  # the file's memory goes with it

    def verify(self) -> None:
        with foreign(self.path, _WHAT):
            refuse_damaged(self.path)


def _entries(tensors: Mapping[str, torch.Tensor]) -> dict[str, Entry]:
    import torch

    entries: dict[str, Entry] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if tensor.device.type != "cpu":
            raise ValueError(f"tensor {clipped(name)} has no numbers: it is on {tensor.device}")
        if tensor.layout != torch.strided or tensor.is_quantized:
            entries[name] = Entry(shape, False, dtype=f"{tensor.layout} {dtype}")
            continue
        storage = tensor.untyped_storage().nbytes()
        if tensor.is_floating_point() and tensor.numel() * tensor.element_size() > storage:
            raise ValueError(
                f"tensor {clipped(name)} has shape {list(shape)}, but the file has "
                f"{storage:,} bytes of it"
            )
        # Tied parameters are one storage under several names.
        memory = (tensor.data_ptr(), tensor.dtype, shape, tensor.stride())
        alias = first.setdefault(memory, name) if tensor.numel() else name
        entries[name] = Entry(
            shape, tensor.is_floating_point(), None if alias == name else alias, dtype
        )
    return entries


def _load(path: Path) -> Any:
    """Load tensors and plain values, memory-mapped where the file's format allows."""
    import pickle
    import warnings

    import torch

    records = storage_records(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types that are passed over anyway
            # Files from before torch 1.6 cannot be mapped; they are read whole, one at a time.
            loaded = torch.load(
                path, map_location="cpu", weights_only=True, mmap=records is not None
            )
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ValueError("it is truncated or not a file of torch.save") from None
        raise InputError(
            f"{path} holds {clipped(found[1])}, which cannot be opened without running its code; "
            "if you trust it, open it with torch.load(FILE, weights_only=False) and torch.save its "
            "state dict alone"
        ) from None
    except Exception as error:
        if isinstance(error, MemoryError | OSError):
            raise
        raise ValueError("it is truncated or not a file of torch.save") from None
    if records is not None:
        refuse_misplaced(records, _storages(loaded))
    return loaded


def _storages(loaded: Any) -> set[tuple[int, int]]:
    """Return the address and bytes of every storage in memory that what was loaded leads to."""
    import torch

    found: set[tuple[int, int]] = set()
    seen: set[int] = set()
    left = [loaded]
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and value.device.type == "cpu":
                storage = value.untyped_storage()
                found.add((storage.data_ptr(), storage.nbytes()))
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, Mapping) else value
    return found
