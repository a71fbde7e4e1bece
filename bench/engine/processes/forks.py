"""Processes that do work for this one, and how they start.

They come from a fork server: a process that has loaded what they need and nothing else, so that no
worker imports torch anew and none inherits this process's threads or locks. Where the system has no
fork server they are spawned.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

from weightcast.methods.registry import BUILTIN

if TYPE_CHECKING:
    from pebble import ProcessPool

#: Threads that numerical libraries may use in a worker.
THREADS = 1
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
#: Named, not imported: it is for the server's process alone.
_SERVER_SIDE = "weightcast.bench.engine.processes.server_side"
#: Workers may start processes from several threads; the environment is one for all of them.
_lock = threading.Lock()


def worker_context(preload: Iterable[str] = ()) -> BaseContext:
    """Return how processes start, with the fork server running.

    Parameters
    ----------
    preload : iterable of str
        Modules that the fork server loads, beside those of this package that are loaded here and
        all methods of its own. What it has loaded is settled by the first call in a process;
        workers load themselves what a later one asks for.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Each process imports the main script anew, and with it whatever that imports.
    ours = {name for name in sys.modules if name.startswith("weightcast.bench.")}
    methods = {f"weightcast.methods.{name}" for name in BUILTIN}
    context.set_forkserver_preload(sorted({*preload, *ours, *methods, _SERVER_SIDE}))
    server_process()
    return context


def server_process() -> int | None:
    """Return the fork server's process, started anew where it was ended; None without one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    from multiprocessing import forkserver

    # The numerical libraries read these once, when they load. And the server must not look for
    # modules in whatever folder this process happens to be in.
    values = {name: str(THREADS) for name in _THREADS} | {"PYTHONSAFEPATH": "1"}
    with _lock, _environment(values), _without_interrupts():
        forkserver.ensure_running()
        return int(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def server_ended(pid: int | None) -> bool:
    """Whether a fork server is no more."""
    import psutil

    try:
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach; what it is to end, this process ends.

    The fork server is deaf to it only when it has loaded its modules, and a worker when it has
    started: until then each would print a traceback.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it lets Ctrl-C in again where it starts on the way
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def settle_worker() -> None:
    """Prepare a worker process: deaf to Ctrl-C, one thread, gone when its parent is.

    Ctrl-C reaches the whole process group; the parent alone decides what ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The pool's handler would make an exit with a status of what is a signal from outside.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = sys.__excepthook__  # it has started: see `server_side`
    for name in _THREADS:
        os.environ[name] = str(THREADS)
    # Where it has been asked for, the system itself ends what is stuck in compiled code: the fork
    # server ends with the process that started it, and its children with it.
    with suppress(AttributeError, TypeError, OSError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _let_server_go()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _let_server_go() -> None:
    """Close what keeps the fork server alive, so that it ends with the process that started it.

    It lives as long as somebody holds the other end of a pipe, and hands that to its children. A
    worker that is stuck would hold its server, whose end is what ends the worker.
    """
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    end = getattr(server, "_forkserver_alive_fd", None)
    if server is not None and end is not None:
        os.close(end)
        server._forkserver_alive_fd = None


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run's work must not go on unseen."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


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
        max_workers=workers,
        context=worker_context(),
        initializer=initializer,
        initargs=initargs,
    )
    try:
        yield pool
        pool.close()  # type: ignore[no-untyped-call]  # pebble is typed in part
    except BaseException:
        pool.stop()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.join()
