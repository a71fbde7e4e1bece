"""Numbers as people have them at hand: Python's, numpy's, or a tensor of one element."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import numpy as np

from weightcast.datasets.errors import InputError

_LARGEST = 2**63 - 1


def whole_number(name: str, value: Any, least: int = -_LARGEST) -> int:
    """Return a whole number of any library as an int; a fraction, a truth value or text is refused.

    Raises
    ------
    InputError
        Naming the argument.

    Examples
    --------
    >>> whole_number("every", np.int64(5))
    5
    """
    try:
        found = None if _is_truth_value(value) else operator.index(value)
    except Exception:  # each library refuses in its own way
        found = None
    if found is None:
        raise InputError(f"{name} must be a whole number, not {_shown(value)}")
    if not least <= found <= _LARGEST:
        bound = f"{least} or more" if found < least else "less than 2**63"
        raise InputError(f"{name} must be {bound}, not {found}")
    return found


def one_number(name: str, value: Any) -> Any:
    """Return a number of any library as a float, or as a tensor of its own where it is a tensor.

    A tensor stays on its device, so that nothing waits for it, and is copied: compiled networks
    reuse the memory of what they return.

    Raises
    ------
    InputError
        If it is several numbers, complex, a truth value or none at all.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex() or _is_truth_value(value) or value.is_meta:
            raise InputError(f"{name} must be one number, not {_shown(value)}")
        # Half-precision sums overflow; Apple's devices have no float64.
        dtype = torch.float32 if value.device.type == "mps" else torch.float64
        return value.detach().reshape(()).to(dtype, copy=True)
    try:
        if _is_truth_value(value) or isinstance(value, str | bytes) or np.size(value) != 1:
            raise TypeError
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be one number, not {_shown(value)}") from None


def plain(value: Any) -> Any:
    """Return a setting as JSON holds it; None for what it cannot hold.

    Examples
    --------
    >>> plain((np.float32(0.5), 3, object()))
    [0.5, 3, None]
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, int):
        return int(value)
    try:
        if _is_truth_value(value):
            return bool(value)
        found = float(one_number("a setting", value))
    except (InputError, TypeError, ValueError, RuntimeError):
        return None
    return found if math.isfinite(found) else None


def _is_truth_value(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _shown(value: Any) -> str:
    """Say what a value is in a few words."""
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and len(shape):
        return f"a {type(value).__name__} of shape {list(shape)}; give its mean, say"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:60] + "…"
