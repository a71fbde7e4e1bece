"""Keeping this process as it is while somebody else's code is loaded into it.

All that works on units is started from here: what a plugin does to its process when it is loaded
would reach every method's. Each process that runs the plugin's own methods loads it again.
"""

from __future__ import annotations

import locale
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np


@contextmanager
def kept_process() -> Iterator[None]:
    """Put back after a block what processes started from here would inherit or be sent."""
    folder, environment, mask = os.getcwd(), dict(os.environ), _umask()
    numbers, spoken, limits = np.geterr(), locale.setlocale(locale.LC_ALL), _limits()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    recursion, torch_type = sys.getrecursionlimit(), _torch_type()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(folder)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        os.umask(mask)
        np.seterr(**numbers)
        locale.setlocale(locale.LC_ALL, spoken)
        sys.setrecursionlimit(recursion)
        _put_back_limits(limits)
        _put_back_handlers(handlers)
        _put_back_torch_type(torch_type)


def _umask() -> int:
    mask = os.umask(0o077)  # there is no way to look without setting it
    os.umask(mask)
    return mask


def _put_back_handlers(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            with suppress(OSError, ValueError):  # not in the main thread
                signal.signal(number, handler)


def _limits() -> dict[int, tuple[int, int]]:
    try:
        import resource
    except ImportError:
        return {}  # not a Unix
    kinds = {number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
    return {kind: resource.getrlimit(kind) for kind in kinds}


def _put_back_limits(limits: dict[int, tuple[int, int]]) -> None:
    for kind, limit in limits.items():
        import resource

        if resource.getrlimit(kind) != limit:
            with suppress(OSError, ValueError):  # a hard one cannot be raised again
                resource.setrlimit(kind, limit)


def _torch_type() -> Any:
    torch: Any = sys.modules.get("torch")
    return None if torch is None else torch.get_default_dtype()


def _put_back_torch_type(before: Any) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_default_dtype(before or torch.float32)
