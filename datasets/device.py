"""Where networks train and are measured: the CPU, or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weightcast.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda")


def torch_device(name: str) -> torch.device:
    """Look a device up.

    A GPU is held to full float32 from then on: the short factors that its convolutions take by
    default, of ten bits, would be another network than the CPU's.

    Raises
    ------
    InputError
        If it is neither ``"cpu"`` nor ``"cuda"``, or torch finds no CUDA here.
    """
    import torch

    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    if name == "cuda":
        if not torch.cuda.is_available():
            raise InputError("device cuda: torch finds no CUDA GPU on this machine; use device cpu")
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def device_name(name: str) -> str:
    """Name what is behind a device: a GPU by its maker's name, the CPU as ``"cpu"``."""
    import torch

    return torch.cuda.get_device_name() if torch_device(name).type == "cuda" else name
