"""What crosses the pipe between a method's process and the desk: a line of JSON, then arrays.

Nothing is unpickled. What comes is looked at before memory is taken for it: a message is no longer
than its reader says, an array is of a dtype that is named here and as large as it claims.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of a message's first part.
_HEAD = 2**20
_DTYPES = ("<f4", "<f8")
#: Whether a connection is a file that can be read into memory.
_DIRECT = hasattr(os, "readv")


class BadMessage(Exception):
    """The other side says what it cannot mean."""


@dataclass(frozen=True)
class Message:
    """A word, plain values, and arrays."""

    word: str
    values: dict[str, Any]
    arrays: Sequence[NDArray[Any]] = ()


def send(connection: Connection, message: Message) -> None:
    """Send a message.

    Raises
    ------
    OSError
        If nobody is there any more.
    """
    arrays = [np.ascontiguousarray(array) for array in message.arrays]
    kinds = [[array.dtype.newbyteorder("<").str, list(array.shape)] for array in arrays]
    head = json.dumps([message.word, message.values, kinds])
    connection.send_bytes(head.encode())
    for array in filter(np.size, arrays):  # an empty one has no bytes to send
        _send_bytes(connection, array.reshape(-1).data.cast("B"))


def receive(connection: Connection, most: Callable[[], int]) -> Message:
    """Wait for a message.

    Parameters
    ----------
    connection : Connection
    most : callable
        Says, once a message comes, how many bytes its arrays may take.

    Raises
    ------
    BadMessage
        If it is none.
    EOFError, OSError
        If nobody is there any more.
    """
    word, values, kinds = _head(connection.recv_bytes(_HEAD))
    if sum(kind.itemsize * math.prod(shape) for kind, shape in kinds) > most():
        raise BadMessage(f"its arrays take more than {most()} bytes")
    arrays = [np.empty(shape, kind) for kind, shape in kinds]
    for array in filter(np.size, arrays):
        _receive_bytes(connection, array.reshape(-1).data.cast("B"))
    return Message(word, values, arrays)


def _send_bytes(connection: Connection, view: memoryview) -> None:
    if not _DIRECT:
        connection.send_bytes(view)
        return
    while view:
        view = view[os.write(connection.fileno(), view) :]


def _receive_bytes(connection: Connection, view: memoryview) -> None:
    """Fill all of a view; a connection's own way would copy everything twice."""
    if not _DIRECT:
        if connection.recv_bytes_into(view) != len(view):
            raise BadMessage("an array is shorter than it says")
        return
    while view:
        count = os.readv(connection.fileno(), [view])
        if count == 0:
            raise EOFError
        view = view[count:]


def _head(line: bytes) -> tuple[str, dict[str, Any], list[tuple[np.dtype[Any], tuple[int, ...]]]]:
    try:
        word, values, kinds = json.loads(line)
        if not (isinstance(word, str) and isinstance(values, dict)):
            raise BadMessage("it has no word or no values")
        if not all(kind in _DTYPES and _is_shape(shape) for kind, shape in kinds):
            raise BadMessage("an array has no such dtype or shape")
    except (ValueError, TypeError, RecursionError) as error:
        raise BadMessage(str(error)) from None
    return word, values, [(np.dtype(kind), tuple(shape)) for kind, shape in kinds]


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(
        isinstance(length, int) and not isinstance(length, bool) and length >= 0 for length in shape
    )
