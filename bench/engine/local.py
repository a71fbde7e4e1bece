"""Working on units in processes of this machine, several side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

from weightcast.bench.engine.events import Event
from weightcast.bench.engine.processes.forks import worker_context
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.worker import Stopped, Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.work import Work, modules_of

#: Seconds that a thread has to see that its worker was killed.
_PATIENCE = 60.0


def run_here(
    units: Sequence[Work],
    setup: Setup,
    limits: Limits,
    where: Site,
    stop: threading.Event,
) -> Iterator[list[Event]]:
    """Work on units with ``where.jobs`` workers.

    Parameters
    ----------
    units : sequence of Work
        In the order in which they are to begin.
    setup : Setup
    limits : Limits
    where : Site
    stop : Event
        Once it is set nothing new begins.

    Yields
    ------
    list of Event
        What happened since the last time. Closing the iterator ends all workers at once.
    """
    waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for unit in units:
        waiting.put(unit)
    happened: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: a thread is done
    failures: list[BaseException] = []
    # Each cell that ends its process costs a new one, which is to be there at once.
    context = worker_context(modules_of(units))
    workers = [Worker(context, limits) for _ in range(min(where.jobs, len(units)))]

    def work(worker: Worker) -> None:
        try:
            while not stop.is_set():
                unit = waiting.get_nowait()
                worker.serve(unit.method)
                unit.run(worker, setup, where, happened.put, stop)
        except (queue.Empty, Stopped):
            pass
        except BaseException as error:  # ours: methods' failures are rows
            failures.append(error)
            stop.set()
        finally:
            happened.put(None)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        at_work = len(threads)
        while at_work:
            events = _drain(happened)
            at_work -= events.count(None)
            yield [event for event in events if event is not None]
    finally:
        stop.set()
        for worker in workers:
            worker.kill()
        for thread, worker in zip(threads, workers, strict=True):
            thread.join(_PATIENCE)  # without its process it has nothing to do
            worker.close()
    if failures:
        raise failures[0]


def _drain(happened: queue.SimpleQueue[Event | None]) -> list[Event | None]:
    """Wait for something to happen; return it with whatever else has."""
    events = [happened.get()]
    while not happened.empty():
        events.append(happened.get())
    return events
