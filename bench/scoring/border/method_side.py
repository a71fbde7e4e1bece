"""What a method's process does: one fit, then the forecasts that use it, each asked for by itself.

Exceptions of the method are told with a status and never leave this module. A fitted method goes
back as bytes as well, so that a process that dies over one cell does not cost the fit of the
others.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np

from weightcast.bench.engine.failure import Failure, failure_of
from weightcast.bench.engine.processes.inside import (
    check_code,
    check_files,
    load_plugins,
    pin_threads,
)
from weightcast.bench.scoring.border.offers import (
    FitOffer,
    FitReport,
    ForecastOffer,
    Order,
    RunOffer,
    Told,
)
from weightcast.bench.scoring.border.sealed import (
    Desk,
    DeskGone,
    GivenUp,
    SealedRun,
    bytes_of,
)
from weightcast.bench.scoring.cell import Costs, native_horizons
from weightcast.bench.scoring.forecasting import ForecastStream, InvalidForecast, Stopwatch
from weightcast.bench.scoring.memory import peak_memory
from weightcast.bench.scoring.tuning import fit_tuned
from weightcast.datasets.history import TrainLoss
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods import make_method
from weightcast.methods.forecaster import Forecaster

T = TypeVar("T")

#: Bytes of runs that are fetched at once; of more, what is read is fetched when it is read.
TRAINING, CONTEXT = 2**28, 2**26


class NotHere(Exception):
    """The fitted method is not in this process, which is a new one."""


class NotLinked(Exception):
    """The process has no pipe to the desk, or an old one."""


@dataclass
class _Held:
    """What the process has at hand: its pipe to the desk, and the method that it fitted last."""

    connection: Connection
    link: int
    key: str = ""
    method: Forecaster | None = None


_held: _Held | None = None


def take_link(link: int, connection: Connection) -> None:
    """Ask along a pipe from now on."""
    global _held
    if _held is None:
        _held = _Held(connection, link)
        return
    _held.connection.close()
    _held.connection, _held.link = connection, link


def make_ready(order: Order) -> None:
    """Load plugins and libraries, which are no part of what a fit or a cell takes.

    What goes wrong here goes wrong again, and is told, where it is needed.
    """
    with contextlib.suppress(Exception):
        _load(order)
        make_method(order.method, json.loads(order.params)).clone()
        pin_threads()


def make_fit(link: int, order: Order, offer: FitOffer) -> tuple[FitReport, bytes | None]:
    """Fit one method.

    Returns
    -------
    report : FitReport
    fitted : bytes or None
        The fitted method, pickled; None where it failed or cannot be pickled.

    Raises
    ------
    NotLinked
        If the process is to be linked first.
    DeskGone
        If the desk is lost.
    """
    held = _linked(link)
    held.key, held.method = "", None  # an earlier method is not to be taken for this one's
    try:
        _load(order)
        pin_threads()
        check_files(order.method, order.params, order.files)
        report, method = _fit(Desk(held.connection, offer.session), order, offer)
        check_files(order.method, order.params, order.files)
    except DeskGone:
        raise
    except BaseException as error:  # a method may well call sys.exit
        return FitReport(_failure(error)), None
    held.key, held.method = order.key, method
    fitted: bytes | None = None
    with contextlib.suppress(Exception):
        fitted = pickle.dumps(method)
    return report, fitted


def make_forecast(link: int, order: Order, offer: ForecastOffer, fitted: bytes | None) -> Told:
    """Forecast one run, with the method that this process fitted or is handed.

    The blocks go to the desk.

    Raises
    ------
    NotLinked, DeskGone
        As in `make_fit`.
    NotHere
        If it has no method.
    """
    held = _linked(link)
    try:
        method = _method(held, order, fitted)
        desk = Desk(held.connection, offer.session)
        run = SealedRun(desk, offer.run, bytes_of([offer.run]) <= CONTEXT)
        stream = ForecastStream(method, run, offer.task, offer.sample, _loss_at_desk)
        with peak_memory() as memory:
            for block in stream:
                desk.hand_over(block, 0)
        costs = Costs(
            stream.stopwatch.wall,
            stream.stopwatch.cpu,
            memory.above_baseline,
            stream.evaluations,
            tuple(native_horizons(method, offer.task)),
        )
        there = offer.statistics is None or _forecast_statistics(desk, method, offer)
        return Told(costs=costs, statistics=there)
    except (DeskGone, NotHere):
        raise
    except BaseException as error:  # a method may well call sys.exit
        return Told(_failure(error))


def draw_forecast(link: int, order: Order, offer: ForecastOffer, fitted: bytes | None) -> Told:
    """Forecast a run for a picture, as `make_forecast`; no cell is made of it."""
    return make_forecast(link, order, offer, fitted)


def diagnostics(link: int, order: Order, fitted: bytes | None) -> dict[str, Any] | None:
    """Return a method's diagnostics as they are now; None where it has none to give.

    Raises
    ------
    NotLinked
        As in `make_fit`.
    """
    held, found = _linked(link), None
    with contextlib.suppress(BaseException):  # a method may well call sys.exit
        found = _plain(_method(held, order, fitted).diagnostics())
    return found


def _fit(desk: Desk, order: Order, offer: FitOffer) -> tuple[FitReport, Forecaster]:
    at_once = bytes_of([*offer.train, *offer.validation]) <= TRAINING
    train, validation = (_open(desk, runs, at_once) for runs in (offer.train, offer.validation))
    watch = Stopwatch()
    # The first clone in a process loads scikit-learn, which the meters are not to count.
    method = make_method(order.method, json.loads(order.params)).clone()
    with peak_memory() as memory, watch:
        method, chosen, trials = fit_tuned(
            method, train, validation, offer.task, offer.sample, order.tuning, _loss_at_desk
        )
    report = FitReport(
        chosen=_plain(chosen),
        trials=_plain(trials),
        seconds=watch.wall,
        cpu_seconds=watch.cpu + desk.cpu_seconds,
        memory_bytes=memory.above_baseline,
        parameters=_plain(method.parameter_count()),
        flops_per_coordinate=_plain(method.flops_per_coordinate(offer.task)),
        diagnostics=_plain(method.diagnostics()),
        learned=method.get_tag("provenance") == "fit-on-train-split",
        # The fit may have loaded a library, and cells follow.
        threads=pin_threads(),
    )
    return report, method


def _open(desk: Desk, offers: Sequence[RunOffer], at_once: bool) -> list[Trajectory]:
    return [SealedRun(desk, offer, at_once) for offer in offers]


def _forecast_statistics(desk: Desk, method: Forecaster, offer: ForecastOffer) -> bool:
    """Have batch-norm statistics forecast; return whether there is a forecast."""
    assert offer.statistics is not None
    try:
        run = SealedRun(desk, offer.statistics, at_once=True)
        for block in ForecastStream(method, run, offer.task, None, _loss_at_desk):
            desk.hand_over(block, 1)
    except (MemoryError, DeskGone, GivenUp):
        raise
    except Exception:
        # A method may know weights by their names, or need the loss that none of these has.
        return False
    return True


def _loss_at_desk(run: Trajectory) -> TrainLoss | None:
    return run.loss() if isinstance(run, SealedRun) else None


def _failure(error: BaseException) -> Failure:
    if isinstance(error, GivenUp):  # the desk knows why
        return Failure("failed", "the scoring gave up", "")
    return failure_of(error, InvalidForecast)


def _linked(link: int) -> _Held:
    if _held is None or _held.link != link:
        raise NotLinked
    return _held


def _load(order: Order) -> None:
    load_plugins(order.setup, order.method, ())
    check_code(order.setup, order.method, order.code)


def _method(held: _Held, order: Order, fitted: bytes | None) -> Forecaster:
    """Return the fitted method.

    Raises
    ------
    NotHere
        If it is neither here nor in bytes that can be read.
    """
    if held.key == order.key and held.method is not None:
        return held.method
    if fitted is None:
        raise NotHere
    _load(order)
    try:
        # Bytes that a process of this run made of a method it fitted; never read from a file.
        held.method = pickle.loads(fitted)
    except Exception as error:  # a method's own way of being pickled need not work
        raise NotHere from error
    held.key = order.key
    pin_threads()
    return held.method


def _plain(value: T) -> T:
    """Return a value of a method's as the store can keep it, with NumPy's numbers as Python's.

    Raises
    ------
    TypeError
        If it holds anything that JSON has no word for; then the fit is at fault, not the store.
    """
    plain: T = json.loads(json.dumps(value, default=_number))
    return plain


def _number(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain value, as the result store needs it")
