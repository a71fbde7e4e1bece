"""Worker processes (pebble) that end with the block that started them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pebble import ProcessPool

#: Spawned workers inherit no threads and no locks; forked ones would inherit torch's.
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., None], initargs: tuple[Any, ...]
) -> Iterator[ProcessPool]:
    """Open a pool of worker processes; whatever ends the block early stops what is running.

    Parameters
    ----------
    workers : int
    initializer : callable
        Called with ``initargs`` in each worker before its first task.
    initargs : tuple
    """
    from pebble import ProcessPool

    pool = ProcessPool(
        max_workers=workers, context=SPAWN, initializer=initializer, initargs=initargs
    )
    try:
        yield pool
        pool.close()  # type: ignore[no-untyped-call]  # pebble is typed in part
    except BaseException:
        pool.stop()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.join()
