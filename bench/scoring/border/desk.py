"""The process that holds runs, data and networks: what it is called for, and its end of the pipe.

It lives on from method to method, so that runs are opened, generated and checked once. A call opens
a session: the runs of a fit, or of one forecast. A thread then answers what the method's process
asks, until the next call closes it.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from weightcast.bench.engine.failure import Failure, failure_of
from weightcast.bench.engine.processes.inside import load_plugins, pin_threads
from weightcast.bench.engine.records import CellRow, rows_without_result
from weightcast.bench.engine.site import Setup
from weightcast.bench.plan.fits import Fit, KnownRun
from weightcast.bench.plan.place import Place
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.scoring.border.answers import NO_NAME, Incoming, Readable, Session
from weightcast.bench.scoring.border.offers import FitOffer, ForecastOffer, Told
from weightcast.bench.scoring.border.wire import BadMessage, Message, receive, send
from weightcast.bench.scoring.cell import CellScore
from weightcast.bench.scoring.example import ExampleForecast, example_truth
from weightcast.bench.scoring.forecasting import is_told_the_truth
from weightcast.bench.scoring.known_bytes import KnownBytes
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import Trajectory, make_task
from weightcast.datasets.evaluator import Evaluator, evaluator_for
from weightcast.datasets.task import ForecastTask
from weightcast.methods import all_methods

#: Bytes that generated runs may take; those of a recorded set are read from their files.
RUNS = 2**29
#: How many networks and problems are kept, for measuring losses.
EVALUATORS = 16

_numbers = itertools.count(1)


class NotOpen(Exception):
    """No session is open: this process is another one than that which opened it."""


class _Desk:
    """What the process has at hand, and the session that is open."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._runs = RunCache(setup.data, RUNS)
        self._known = KnownBytes(self._runs, elsewhere=setup.distrust)
        self._evaluators: dict[str, Evaluator | None] = {}
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._score: CellScore | None = None
        self._example: ExampleForecast | None = None

    def open_fit(self, fit: Fit) -> FitOffer:
        place, split = fit.place, fit.split
        self._known.check_all(_trained_on(fit))
        views = {
            seed: place.training_view(self._runs(place.trained_on, seed))
            for seed in sorted((*split.train, *split.validation))
        }
        readable = [self._readable(run, rank) for rank, run in enumerate(views.values())]
        offers = {seed: readable[rank].offer(rank) for rank, seed in enumerate(views)}
        first = views[split.train[0]]
        task = make_task(first, fit.context, seed=fit.task_seed)
        sample = np.empty(0, dtype=np.int64)
        if fit.sampled:
            sample = coordinate_sample(place.trained_on, first.n_coordinates, fit.sample)
        return FitOffer(
            self._begin(Session(next(_numbers), readable, [])),
            tuple(offers[seed] for seed in sorted(split.train)),
            tuple(offers[seed] for seed in sorted(split.validation)),
            replace(task, dataset=NO_NAME),
            sample,
            sum(_training_seconds(run) for run in views.values()),
        )

    def close_fit(self, fit: Fit) -> Failure | bool:
        session = self._end()
        return self._known.untouched(_trained_on(fit)) and (session.failure or True)

    def open_cell(self, fit: Fit, seed: int) -> ForecastOffer:
        run, task = self._test_run(fit, seed)
        # Runs of a recorded set are of one network.
        evaluator = self._evaluator(run) if "function" in fit.tiers else None
        sample = coordinate_sample(fit.place.dataset, run.n_coordinates, fit.sample)
        self._score = score = CellScore(
            run, task, sample, evaluator, fit.batch_norm, fit.lengths, sampled=fit.sampled
        )
        only = sample if fit.sampled else None
        readable = [self._context(fit, run, task)]
        incoming = [Incoming(run, task, only, score.add)]
        statistics = None
        if (of := score.statistics) is not None:
            readable.append(Readable(of.context, 0, of.context.n_snapshots))
            incoming.append(Incoming(of.context, task, None, of.add))
            statistics = readable[1].offer(1)
        number = self._begin(Session(next(_numbers), readable, incoming))
        blind = replace(task, dataset=NO_NAME)
        return ForecastOffer(number, readable[0].offer(0), blind, only, statistics)

    def close_cell(self, fit: Fit, seed: int, told: Told) -> list[CellRow] | None:
        session, score, self._score = self._end(), self._score, None
        if score is None:
            raise NotOpen
        if not self._known.untouched(_tested_on(fit, seed)):
            return None
        failure = _failure(session, told)
        if failure is not None or told.costs is None:
            return rows_without_result(seed, fit.tiers, failure or _NO_COSTS)
        if score.statistics is not None and (not told.statistics or session.incoming[1].missing()):
            score.statistics.give_up()
        try:
            return score.rows(replace(told.costs, evaluations=session.evaluations))
        except Exception as error:
            return rows_without_result(seed, fit.tiers, _of_scoring(failure_of(error)))

    def open_example(self, fit: Fit) -> ForecastOffer:
        run, task = self._test_run(fit, fit.split.test[0])
        sample = coordinate_sample(fit.place.dataset, run.n_coordinates, fit.sample)
        self._example = example = ExampleForecast(run, task, sample, fit.sampled)
        only = sample if fit.sampled else None
        readable = self._context(fit, run, task)
        incoming = Incoming(run, task, only, example.add)
        number = self._begin(Session(next(_numbers), [readable], [incoming]))
        return ForecastOffer(number, readable.offer(0), replace(task, dataset=NO_NAME), only)

    def close_example(self, fit: Fit, told: Told) -> dict[str, Any]:
        session, example, self._example = self._end(), self._example, None
        seed = fit.split.test[0]
        if example is None or not self._known.untouched(_tested_on(fit, seed)):
            return {}
        run, task = self._test_run(fit, seed)
        sample = coordinate_sample(fit.place.dataset, run.n_coordinates, fit.sample)
        drawn = {"truth": example_truth(run, task, sample)}
        return drawn if _failure(session, told) else drawn | {"forecast": example.drawn}

    def answer(self, message: Message) -> Message:
        with self._lock:
            session = self._session
            if session is None or message.values.get("session") != session.number:
                return Message("refused", {"reason": "this is not asked for any more"})
            return session.answer(message)

    @property
    def most(self) -> int:
        """Bytes that a question may have now."""
        session = self._session
        return 0 if session is None else session.most

    def _begin(self, session: Session) -> int:
        with self._lock:
            self._session = session
        return session.number

    def _end(self) -> Session:
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            raise NotOpen
        return session

    def _test_run(self, fit: Fit, seed: int) -> tuple[Trajectory, ForecastTask]:
        self._known.check_all(_tested_on(fit, seed))
        # In a shift track the test runs' steps and learning rates are not those of training runs.
        first, run = (
            fit.place.test_view(self._runs(fit.place.dataset, s)) for s in (fit.split.test[0], seed)
        )
        return run, make_task(first, fit.context, seed=fit.task_seed)

    def _context(self, fit: Fit, run: Trajectory, task: ForecastTask) -> Readable:
        """Show a run up to its origin, and whole to the one reference that is told it."""
        cls = all_methods().get(fit.method)
        told = cls is not None and is_told_the_truth(cls)
        return self._readable(run, 0, run.n_snapshots if told else task.context + 1)

    def _readable(self, run: Trajectory, rank: int, snapshots: int | None = None) -> Readable:
        count = run.n_snapshots if snapshots is None else snapshots
        return Readable(run, rank, count, lambda: self._evaluator(run))

    def _evaluator(self, run: Trajectory) -> Evaluator | None:
        """Return what measures a run's network; runs of one recipe share one."""
        meta = run.meta
        # Each run of a generated set is a problem of its own.
        own = (meta.dataset, meta.seed) if "generator" in meta.recipe else ()
        key = json.dumps([meta.recipe, meta.data, *own], sort_keys=True, default=str)
        if key not in self._evaluators:
            self._evaluators[key] = evaluator_for(meta, device=self.setup.device)
            pin_threads()  # it may have loaded a library
            while len(self._evaluators) > EVALUATORS:
                del self._evaluators[next(iter(self._evaluators))]
        return self._evaluators[key]


_NO_COSTS = Failure("failed", "the method's process does not say what the forecast took", "")
_desk: _Desk | None = None


def take_link(connection: Connection) -> None:
    """Answer what comes along a pipe from now on."""
    threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: Connection) -> None:
    with connection:
        try:
            while True:
                message = receive(connection, lambda: _desk.most if _desk else 0)
                answer = _desk.answer(message) if _desk else Message("failed", {})
                send(connection, answer)
        except (OSError, EOFError, BadMessage):
            return  # nobody is there any more, or nobody who can be talked to


def open_fit(setup: Setup, fit: Fit) -> FitOffer | Failure:
    """Lay out the runs that a method is fitted on."""
    try:
        return _at_desk(setup, fit).open_fit(fit)
    except Exception as error:
        return failure_of(error)


def close_fit(setup: Setup, fit: Fit) -> Failure | bool:
    """Return whether the runs are still those of the plan, or what failed here meanwhile."""
    return _at_desk(setup, fit).close_fit(fit)


def open_cell(setup: Setup, fit: Fit, seed: int) -> ForecastOffer | Failure:
    """Lay out a test run up to its origin, to be forecast and scored."""
    try:
        return _at_desk(setup, fit).open_cell(fit, seed)
    except Exception as error:
        return failure_of(error)


def close_cell(setup: Setup, fit: Fit, seed: int, told: Told) -> list[CellRow] | None:
    """Return a cell's rows; None where its run was touched meanwhile, and it is to be made again.

    What fails here failed in scoring, as the reason says.
    """
    return _at_desk(setup, fit).close_cell(fit, seed, told)


def open_example(setup: Setup, fit: Fit) -> ForecastOffer | None:
    """Lay out the run that is drawn; None where this fit has no picture."""
    place = fit.place
    first = fit.split.rotation == fit.repeat == 0
    if not first or place != Place(place.dataset, place.dataset, place.track):
        return None
    try:
        return _at_desk(setup, fit).open_example(fit)
    except Exception:  # nothing that is scored depends on it
        return None


def close_example(setup: Setup, fit: Fit, told: Told) -> dict[str, Any]:
    """Return what is drawn of the run, and of the forecast where there is one."""
    return _at_desk(setup, fit).close_example(fit, told)


def _at_desk(setup: Setup, fit: Fit) -> _Desk:
    global _desk
    if _desk is None or _desk.setup != setup:
        _desk = _Desk(setup)
        pin_threads()
    load_plugins(setup, None, {fit.place.dataset, fit.place.trained_on})
    return _desk


def _failure(session: Session, told: Told) -> Failure | None:
    """Return why a forecast has no result: what the desk found, else what the method said."""
    if session.failure is not None:
        invalid = session.failure.status == "invalid"
        return session.failure if invalid else _of_scoring(session.failure)
    if told.failure is not None:
        return told.failure
    missing = session.incoming[0].missing()
    return Failure("invalid", missing, "") if missing else None


def _of_scoring(failure: Failure) -> Failure:
    return replace(failure, reason=f"the scoring: {failure.reason}")


def _trained_on(fit: Fit) -> list[KnownRun]:
    return _known(fit, fit.place.trained_on, (*fit.split.train, *fit.split.validation))


def _tested_on(fit: Fit, seed: int) -> list[KnownRun]:
    return _known(fit, fit.place.dataset, (fit.split.test[0], seed))


def _known(fit: Fit, dataset: str, seeds: Sequence[int]) -> list[KnownRun]:
    return [run for run in fit.data if run.dataset == dataset and run.seed in seeds]


def _training_seconds(run: Trajectory) -> float:
    """Seconds that a run took to train from first to last snapshot; 0 if not recorded."""
    return float(run.steps[-1] - run.steps[0]) * (run.meta.seconds_per_step or 0.0)
