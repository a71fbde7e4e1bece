"""A unit of work as a Dask task: what runs on the cluster's workers.

A Dask worker's thread never runs a method itself. It keeps a process of its own for that, which can
be killed like one of a local run, and which later units of the same run use again.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING

from weightcast.bench.engine.environment import describe_machine
from weightcast.bench.engine.events import Event
from weightcast.bench.engine.processes.forks import THREADS, worker_context
from weightcast.bench.engine.processes.limits import Limits, default_memory
from weightcast.bench.engine.processes.worker import Stopped, Worker
from weightcast.bench.engine.site import Setup, Site

if TYPE_CHECKING:
    from distributed import Worker as DaskWorker

    from weightcast.bench.engine.work import Work

#: Seconds after which a process that no unit asked for is ended: its run is over.
_IDLE = 30.0
#: Seconds between looks at whether anybody still wants a unit.
_POLL = 0.5
#: Share of a Dask worker's memory that goes to its processes; the rest is for Dask itself.
_SHARE = 0.9


@dataclass(frozen=True)
class Order:
    """What every unit of one run carries with it, as a worker may join at any time.

    Attributes
    ----------
    run : str
        Tells runs apart that a cluster works on.
    plugins : tuple of tuple
        Each plugin file's name, and the content of it and of its own modules by their paths.
    methods : tuple of frozenset of str
        What each plugin registers.
    data : Path
        Folder of recorded data sets, which all machines see under this path.
    limits : Limits
    own_share : bool
        Whether each process gets its share of its Dask worker's memory, in place of the limit.
    jobs : int
        Units side by side, over the whole cluster.
    preload : tuple of str
        What processes have loaded from the start.
    device : str
        Where networks are measured.
    """

    run: str
    plugins: tuple[tuple[str, dict[str, bytes]], ...]
    methods: tuple[frozenset[str], ...]
    data: Path
    limits: Limits
    own_share: bool
    jobs: int
    preload: tuple[str, ...]
    device: str = "cpu"


def work_on(order: Order, key: str, unit: Work) -> list[Event]:
    """Work on a unit in this Dask worker.

    Parameters
    ----------
    order : Order
    key : str
        The task's.
    unit : Work

    Returns
    -------
    list of Event
        What happened; nothing, or the cells so far, once the run is to stop.

    Raises
    ------
    Stopped
        If nobody wants the unit any more.
    """
    from distributed import get_worker

    stop = _begin(order.run, key)
    if stop.is_set():
        return []
    dask_worker = get_worker()
    bench = _take(order, unit.method, dask_worker)
    if bench is None:
        return []
    events: list[Event] = []
    where = Site(describe_machine(order.device), order.jobs, THREADS)
    try:
        with _watched(key, bench.worker, dask_worker):
            unit.run(bench.worker, bench.setup, where, events.append, stop)
    except BaseException as error:
        _put_away(bench)
        if isinstance(error, Stopped) and stop.is_set():
            return events
        raise
    _give_back(bench)
    return events


def stop_run(run: str) -> set[str]:
    """Let this Dask worker finish the cells of a run that are under way, and begin nothing more.

    Returns
    -------
    set of str
        Keys of the tasks that it has begun.
    """
    with _lock:
        _stops[run].set()
        return set(_begun[run])


def end_run(run: str) -> None:
    """Let this Dask worker end all of a run's processes at once, whatever they are doing."""
    with _lock:
        _stops[run].set()
        _ended.add(run)
        for bench in _at_work[run]:
            bench.worker.kill()
        idle = [bench for bench in _idle if bench.run == run]
        _idle[:] = [bench for bench in _idle if bench.run != run]
    # This is Dask's own thread, which has others to answer.
    threading.Thread(target=_close, args=(idle,), daemon=True).start()


class _Bench:
    """A process for a run's units, and the folder with the plugins that it loads."""

    def __init__(self, order: Order, dask_worker: DaskWorker) -> None:
        self.run = order.run
        # Dask removes this folder even after a Dask worker that was killed.
        self._folder = tempfile.TemporaryDirectory(dir=dask_worker.local_directory)
        paths = _unpack(order, Path(self._folder.name))
        self.setup = Setup(paths, order.methods, order.data, True, order.device)
        _allow_children()
        _forget_trimming()
        context = worker_context(order.preload)
        self.worker = Worker(context, _limits(order, dask_worker))
        self.timer: threading.Timer | None = None

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.worker.close()
        self._folder.cleanup()


_lock = threading.Lock()
_idle: list[_Bench] = []
_at_work: defaultdict[str, list[_Bench]] = defaultdict(list)
_ended: set[str] = set()
_stops: defaultdict[str, threading.Event] = defaultdict(threading.Event)
_begun: defaultdict[str, set[str]] = defaultdict(set)


def _begin(run: str, key: str) -> threading.Event:
    with _lock:
        _begun[run].add(key)
        return _stops[run]


def _take(order: Order, method: str, dask_worker: DaskWorker) -> _Bench | None:
    """Take a process that is idle, or start one; what other runs left behind is ended."""
    with _lock:
        if order.run in _ended:
            return None
        same = [bench for bench in _idle if bench.run == order.run]
        same.sort(key=lambda bench: bench.worker.method == method)  # the last one is taken
        others = [bench for bench in _idle if bench.run != order.run]
        # Under the lock: starting the fork server changes the environment for a moment.
        bench = same.pop() if same else _Bench(order, dask_worker)
        if bench.timer is not None:
            bench.timer.cancel()
        _idle[:] = same
        _at_work[order.run].append(bench)
    _close(others)
    bench.worker.serve(method)
    return bench


def _give_back(bench: _Bench) -> None:
    with _lock:
        if bench.run not in _ended:
            _at_work[bench.run].remove(bench)
            bench.timer = threading.Timer(_IDLE, _retire, (bench,))
            bench.timer.daemon = True
            bench.timer.start()
            _idle.append(bench)
            return
    _put_away(bench)


def _put_away(bench: _Bench) -> None:
    with _lock:
        _at_work[bench.run].remove(bench)
    bench.close()


def _retire(bench: _Bench) -> None:
    with _lock:
        if bench not in _idle:
            return
        _idle.remove(bench)
    bench.close()


def _close_all() -> None:
    with _lock:
        benches, _idle[:] = list(_idle), []
    _close(benches)


def _close(benches: list[_Bench]) -> None:
    for bench in benches:
        bench.close()


def _allow_children() -> None:
    """Let this process have children, and end them before it ends.

    Dask's nannies mark their workers as daemons, which multiprocessing then forbids children. The
    mark is read in this process for that check alone: the nanny has its own copy of it.
    """
    marks: dict[str, object] = getattr(multiprocessing.current_process(), "_config", {})
    marks["daemon"] = False
    global _closing
    if _closing is None:
        # At exit multiprocessing waits for children, but first calls what has a priority.
        _closing = util.Finalize(None, _close_all, exitpriority=100)


_closing: util.Finalize | None = None


def _forget_trimming() -> None:
    """Keep from child processes how Dask's nannies have their workers allocate memory.

    Each larger array would be given back to the system when it is freed: methods would take half as
    long again as in a local run.
    """
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)


def _unpack(order: Order, folder: Path) -> tuple[Path, ...]:
    paths = []
    for place, (name, files) in enumerate(order.plugins):
        here = folder / str(place)  # two plugins may have one name
        for path, content in files.items():
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            (here / path).write_bytes(content)
        paths.append(here / name)
    return tuple(paths)


def _limits(order: Order, dask_worker: DaskWorker) -> Limits:
    if not order.own_share:
        return order.limits
    threads = dask_worker.state.nthreads
    memory = dask_worker.memory_manager.memory_limit
    share = int(_SHARE * memory / threads) if memory else default_memory(threads)
    return replace(order.limits, max_memory=share)


@contextmanager
def _watched(key: str, worker: Worker, dask_worker: DaskWorker) -> Iterator[None]:
    """Kill a process once its unit is cancelled, its client gone or its Dask worker closing.

    Dask itself never ends a task that has begun.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL):
            task = dask_worker.state.tasks.get(key)
            unwanted = task is None or task.state == "cancelled"
            if unwanted or dask_worker.status.name in ("closing", "closed", "failed"):
                worker.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
