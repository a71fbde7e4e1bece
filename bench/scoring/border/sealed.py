"""Runs on the method's side of the border: what may be seen of them, read from the desk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.scoring.border.offers import RunOffer
from weightcast.bench.scoring.border.wire import BadMessage, Message, receive, send
from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.datasets.errors import InputError
from weightcast.datasets.history import TrainLoss
from weightcast.datasets.trajectory import BLOCK_BYTES, Floats, TensorInfo, Trajectory

#: The desk may send whatever a method's process can hold.
_ANY = 2**62


class DeskGone(Exception):
    """Nobody is at the desk any more."""


class GivenUp(Exception):
    """The desk cannot go on with what was asked, whatever the method does."""


class Desk:
    """The desk as a method's process sees it: one question, one answer.

    Parameters
    ----------
    connection : Connection
    session : int

    Attributes
    ----------
    cpu_seconds : float
        That it spent on training losses.
    """

    def __init__(self, connection: Connection, session: int) -> None:
        self._connection, self._session = connection, session
        self.cpu_seconds = 0.0

    def ask(
        self, word: str, values: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()
    ) -> Message:
        """Ask, and wait for the answer.

        Raises
        ------
        InputError
            If it is refused.
        GivenUp
            If the desk has failed.
        DeskGone
            If there is none any more.
        """
        try:
            send(self._connection, Message(word, {"session": self._session, **values}, arrays))
            answer = receive(self._connection, lambda: _ANY)
        except (OSError, EOFError, BadMessage) as error:
            raise DeskGone(str(error)) from None
        if answer.word == "refused":
            raise InputError(str(answer.values["reason"]))
        if answer.word == "failed":
            raise GivenUp
        return answer

    def hand_over(self, block: ForecastBlock, number: int, most: int = BLOCK_BYTES) -> None:
        """Give a forecast's block to whoever scores it, in pieces of so many bytes."""
        width = max(1, most // (4 * block.forecast.shape[1]))
        for first in range(0, len(block.rows), width):
            rows = block.rows[first : first + width]
            values = {
                "number": number,
                "tensor": block.tensor.name,
                "start": int(rows[0]),
                "stop": int(rows[-1]) + 1,
            }
            piece = [] if block.abstained else [block.forecast[first : first + width]]
            self.ask("block", values, piece)


class SealedRun(Trajectory):
    """A run of which nothing is here but what may be seen, or a way to ask for that.

    Parameters
    ----------
    desk : Desk
    offer : RunOffer
    at_once : bool
        Whether all of it is fetched now, else each time it is read.
    """

    def __init__(self, desk: Desk, offer: RunOffer, at_once: bool) -> None:
        source = _AtDesk(desk, offer)
        super().__init__(source, offer.tensors, offer.steps, offer.meta)
        self._own_first = offer.own_first
        self._has_loss = offer.has_loss
        self._asked = source
        self._held: dict[str, Floats] | None = None
        if at_once:
            rows = range(len(offer.steps) + offer.own_first)
            self._held = {info.name: self.read(info, rows) for info in self.tensors}

    def read(
        self,
        tensor: TensorInfo,
        snapshots: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Floats | None = None,
    ) -> Floats:
        rows = [int(s) for s in (range(self.n_snapshots) if snapshots is None else snapshots)]
        stop = tensor.size if stop is None else stop
        if out is None:
            out = np.empty((len(rows), stop - start), dtype=np.float32)
        if self._held is not None:
            np.take(self._held[tensor.name][:, start:stop], rows, axis=0, out=out, mode="raise")
            return out
        width = max(1, BLOCK_BYTES // (4 * max(1, len(rows))))
        for first in range(start, stop, width):
            last = min(stop, first + width)
            out[:, first - start : last - start] = self._asked.rows(tensor, rows, first, last)
        return out

    def initial(self) -> dict[str, Floats]:
        row = self.n_snapshots if self._own_first else 0
        return {info.name: self.read(info, [row])[0].reshape(info.shape) for info in self.tensors}

    def loss(self) -> TrainLoss | None:
        """Return its training loss, measured at the desk; None where that cannot be."""
        return _LossAtDesk(self._asked) if self._has_loss else None


class _AtDesk:
    """Numbers that lie at the desk."""

    def __init__(self, desk: Desk, offer: RunOffer) -> None:
        self.desk = desk
        self.place = offer.place

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        out[:] = self.rows(tensor, [snapshot], start, start + len(out))[0]

    def rows(self, tensor: TensorInfo, snapshots: list[int], start: int, stop: int) -> Floats:
        values = {
            "run": self.place,
            "tensor": tensor.name,
            "snapshots": snapshots,
            "start": start,
            "stop": stop,
        }
        found: Floats = self.desk.ask("read", values).arrays[0]
        return found


class _LossAtDesk(TrainLoss):
    """The training loss of a run whose network and data are at the desk."""

    def __init__(self, asked: _AtDesk) -> None:
        super().__init__(self._ask)
        self._asked = asked

    def _ask(self, weights: Mapping[str, Floats]) -> float:
        names = list(weights)
        arrays = [np.asarray(weights[name], dtype=np.float32) for name in names]
        answer = self._asked.desk.ask("loss", {"run": self._asked.place, "names": names}, arrays)
        seconds = float(answer.values["cpu_seconds"])
        self.cpu_elsewhere += seconds
        self._asked.desk.cpu_seconds += seconds
        return float(answer.values["loss"])


def bytes_of(offers: Sequence[RunOffer]) -> int:
    """Return what runs take in memory, as far as they may be seen."""
    return sum(
        4 * (len(offer.steps) + offer.own_first) * sum(info.size for info in offer.tensors)
        for offer in offers
    )
