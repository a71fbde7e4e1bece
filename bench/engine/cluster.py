"""Working on units on a Dask cluster: one unit is one Dask task.

Dask hands units out, and hands them out again when a machine is lost; this process alone writes
results. See `weightcast.bench.engine.cluster_task` for what runs on the cluster.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from weightcast.bench.engine.cluster_task import Order, end_run, stop_run, work_on
from weightcast.bench.engine.events import Event
from weightcast.bench.engine.failure import Failure, failure_of
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.work import Work, modules_of
from weightcast.datasets import InputError
from weightcast.datasets.dataset import default_data_folder
from weightcast.methods.plugin_modules import plugin_files

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds that the scheduler has to answer, and its workers to appear.
_CONNECT, _WORKERS = 10, 60
#: Tasks that Dask holds at a time, at least: units that wait here cost the scheduler nothing.
_AHEAD = 256
#: How often a unit that raises is tried; a lost Dask worker is Dask's own matter and not counted.
_RETRIES = 2
#: Seconds between looks at what is done, and between calls to stop and looks at who is there.
_POLL, _REPEAT = 0.05, 5.0
#: Loggers of Dask that have a level of their own.
_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado.application", "asyncio")


def run_on_cluster(
    address: str,
    units: Sequence[Work],
    setup: Setup,
    limits: Limits,
    stop: threading.Event,
    own_share: bool = False,
) -> tuple[Iterator[list[Event]], int]:
    """Work on units on a Dask cluster.

    Parameters
    ----------
    address : str
        The scheduler's, as in ``tcp://10.0.0.1:8786``.
    units : sequence of Work
        In the order in which they are to begin.
    setup : Setup
        Plugins are sent along; the folder of data must be one that all machines see.
    limits : Limits
    stop : Event
        Once it is set, cells under way are finished and nothing new begins.
    own_share : bool
        Whether each process gets its share of its Dask worker's memory, in place of the limit.

    Returns
    -------
    happening : iterator of list of Event
        What units that came back tell. Closing it ends all work on the cluster at once.
    jobs : int
        Units that the cluster works on side by side, as it is now.

    Raises
    ------
    InputError
        If there is no such cluster, or it cannot work for this process.
    """
    with _quiet():
        client = _connect(address)
        try:
            jobs = _wait_for_workers(client, address)
            data = (setup.data or default_data_folder()).resolve()
            _check_versions(client)
            _check_folder(client, str(data))
        except BaseException:
            client.close()
            raise
    plugins = tuple((path.name, plugin_files(path)) for path in setup.plugins)
    order = Order(
        run=uuid.uuid4().hex,
        plugins=plugins,
        methods=setup.methods,
        data=data,
        limits=limits,
        own_share=own_share,
        jobs=jobs,
        preload=tuple(modules_of(units)),
        device=setup.device,
    )
    return _results(client, order, units, stop), jobs


def _connect(address: str) -> Client:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError:
        raise InputError(
            "--scheduler needs Dask's package distributed, which is not installed; "
            "install weightcast[cluster]"
        ) from None
    try:
        get_address_host_port(address)  # what a Client makes of a wrong one ends noisily
        return Client(address, timeout=_CONNECT, set_as_default=False, name="weightcast")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--scheduler {address}: this is no address of a Dask scheduler "
            f"({_first_line(error)}); give one such as tcp://10.0.0.1:8786"
        ) from None
    except OSError:  # a TimeoutError is one
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there within {_CONNECT} s; "
            "see that it runs and that this machine reaches it"
        ) from None


def _wait_for_workers(client: Client, address: str) -> int:
    """Wait until there is a Dask worker; return how many threads all have."""
    if not client.nthreads():
        _say(f"the scheduler has no workers yet; waiting for them, at most {_WORKERS} s")
        try:
            client.wait_for_workers(1, timeout=_WORKERS)
        except TimeoutError:
            raise InputError(
                f"--scheduler {address}: the scheduler has no workers after {_WORKERS} s; "
                f"start some with: dask worker {address} --nthreads 1"
            ) from None
    threads = client.nthreads()
    _say(f"on {sum(threads.values()):,} threads of {len(threads):,} Dask workers")
    return sum(threads.values())


def _check_versions(client: Client) -> None:
    """See that scheduler and workers have this Weightcast; asks without any code of ours."""
    own = version("weightcast")
    found: dict[str, object] = dict(client.run(version, "weightcast", on_error="return"))
    try:
        found["the scheduler"] = client.run_on_scheduler(version, "weightcast")
    except ImportError as error:
        found["the scheduler"] = error
    for where, answer in found.items():
        # Other errors are those of a Dask worker that has just gone.
        if isinstance(answer, ImportError) or (isinstance(answer, str) and answer != own):
            other = f"Weightcast {answer}" if isinstance(answer, str) else "no Weightcast"
            there = where if where == "the scheduler" else f"the Dask worker {where}"
            raise InputError(f"{there} has {other}, this machine {own}; install {own} on both")


def _check_folder(client: Client, data: str) -> None:
    if os.path.isdir(data):
        for where, here in client.run(os.path.isdir, data, on_error="ignore").items():
            if not here:
                raise InputError(
                    f"the Dask worker {where} has no folder {data}; name one that all machines "
                    "share with --data"
                )


def _results(
    client: Client, order: Order, units: Sequence[Work], stop: threading.Event
) -> Iterator[list[Event]]:
    look_again = 0.0
    with _quiet(), _closed(client, order.run):
        tasks = _Tasks(client, order, units)
        while tasks.submit():
            if tasks.to_stop(stop.is_set()) or time.monotonic() >= look_again:
                tasks.look(stop.is_set())
                look_again = time.monotonic() + _REPEAT
            events, lost = tasks.collect()
            if events:
                yield events
            elif lost:
                _say("the Dask cluster has dropped this run's tasks, or its scheduler is gone")
                return
            else:
                time.sleep(_POLL)


class _Tasks:
    """The tasks that Dask holds for a run, and the units that are still to be handed to it.

    Parameters
    ----------
    client : Client
    order : Order
    units : sequence of Work
        In the order in which they are to begin.
    """

    def __init__(self, client: Client, order: Order, units: Sequence[Work]) -> None:
        from distributed import as_completed

        self._client, self._order = client, order
        self._waiting = deque(enumerate(units))
        self._held: dict[str, tuple[Work, Future]] = {}
        self._ahead = max(_AHEAD, 4 * order.jobs)
        self._back = as_completed(with_results=True, raise_errors=False, loop=client.loop)
        self._stopping = self._deserted = False

    def submit(self) -> bool:
        """Hand out as much as Dask should hold; return whether anything is to come back."""
        while self._waiting and len(self._held) < self._ahead:
            index, unit = self._waiting.popleft()
            # Dask's pages show tasks under what comes before the number.
            key = f"{unit.shown[1]}-{self._order.run}-{index}"
            future = self._client.submit(
                work_on, self._order, key, unit, key=key, priority=-index, retries=_RETRIES
            )
            self._held[key] = unit, future
            self._back.add(future)
        return bool(self._held)

    def collect(self) -> tuple[list[Event], bool]:
        """Return what has come back, and whether something never will."""
        events: list[Event] = []
        lost = self._client.status != "running"
        for future, result in self._back.next_batch(block=False):
            unit, _ = self._held.pop(future.key, (None, None))
            if unit is None:
                continue  # taken back
            # Not by the future's status: that falls back where the Dask worker dies afterwards.
            if isinstance(result, list):
                events += result
            elif isinstance(result, tuple):  # type, exception and traceback
                events += unit.given_up(_why(result[1]), Site(jobs=self._order.jobs))
            else:  # cancelled, and not by this process
                lost = True
        return events, lost

    def to_stop(self, stop: bool) -> bool:
        """Whether the cluster has yet to hear that it is to stop."""
        return stop and not self._stopping

    def look(self, stop: bool) -> None:
        """Look after the cluster now and then: say where nobody is left, and repeat the stop."""
        with suppress(OSError):  # the scheduler is gone, which `collect` sees
            deserted = not self._client.nthreads()
            if deserted and not self._deserted:
                _say("no Dask worker is left; waiting for others, Ctrl-C stops")
            self._deserted = deserted
            if stop:
                self._stop()

    def _stop(self) -> None:
        """Tell the cluster to finish what is under way; take back what has not begun.

        Said more than once, as a Dask worker that is started anew has not heard it.
        """
        self._waiting.clear()
        answers = self._client.run(stop_run, self._order.run, on_error="ignore")
        if not self._stopping:
            begun = set().union(*answers.values())
            idle = [key for key in self._held if key not in begun]
            self._client.cancel([self._held.pop(key)[1] for key in idle])
        self._stopping = True


def _why(error: BaseException) -> Failure:
    """Say why Dask gave a unit up."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        times = error.allowed_failures + 1
        reason = f"its Dask worker was lost {times} time{'s' if times > 1 else ''}"
        return Failure("crashed", reason, "")
    why = failure_of(error)
    return replace(why, reason=f"on the cluster: {why.reason}")


@contextmanager
def _closed(client: Client, run: str) -> Iterator[None]:
    """End a run's processes at the end, and close the client.

    Dask drops its tasks then. Workers that cannot be told see that; a process that waits for its
    next unit would still be there for a while.
    """
    try:
        yield
    finally:
        telling = threading.Thread(target=_tell_end, args=(client, run), daemon=True)
        telling.start()
        telling.join(timeout=_REPEAT)
        with suppress(OSError, TimeoutError):
            client.close()


def _tell_end(client: Client, run: str) -> None:
    with suppress(Exception):  # the cluster may be gone
        if client.status == "running":
            client.run(end_run, run, on_error="ignore")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log of lost connections and late heartbeats off the user's terminal."""
    with suppress(ImportError):
        import distributed  # noqa: F401  # sets its levels when it loads
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
