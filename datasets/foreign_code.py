"""Importing code of others: whatever it does, its name is told and the command goes on or says so.

A plugin may fail, leave the interpreter, replace this process or never come back. None of that may
look like a command that did its work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

from weightcast.datasets.errors import InputError

#: Seconds until a long import is spoken of, for the first time and for each time after that.
SLOW, EVERY = 5.0, 30.0

#: What ends this process or becomes another one, beside the exception `SystemExit`.
_ENDS = ("_exit", "abort", "execv", "execve")


class WouldEnd(BaseException):
    """Foreign code wants this process to end; no ``except Exception`` of its own stops that."""


@contextmanager
def foreign_code(what: str) -> Iterator[None]:
    """Import foreign code.

    Parameters
    ----------
    what : str
        What it is, for whoever named or installed it, e.g. ``"plugin mine.py"``.

    Raises
    ------
    InputError
        In one line, if it fails or wants to end this process. Ctrl-C stays Ctrl-C.
    """
    pressed: list[int] = []
    try:
        with _noting_interrupts(pressed), no_way_out(), _said_while_slow(what):
            yield
    except InputError:
        raise
    except WouldEnd as end:
        raise InputError(_ends(what, str(end))) from None
    except SystemExit as end:
        code = "" if end.code is None else repr(end.code)
        raise InputError(_ends(what, f"sys.exit({code})")) from None
    except KeyboardInterrupt as stop:
        if pressed or type(stop) is not KeyboardInterrupt:
            raise
        raise InputError(f"{what} fails: it raises KeyboardInterrupt when it is imported") from None
    except BaseException as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{what} fails: {type(error).__name__}: {said}") from error


def load_entry_points(group: str, registered: dict[str, Any]) -> None:
    """Import what installed packages register; what cannot be imported is told and left out.

    Parameters
    ----------
    group : str
        The group of entry points.
    registered : dict
        What they add to; what one added before it failed is taken out again.
    """
    for entry in entry_points(group=group):
        before, what = dict(registered), f"plugin {entry.name} ({_source(entry)})"
        try:
            with foreign_code(what):
                entry.load()
        except InputError as error:
            registered.clear()
            registered.update(before)
            if _is_first_process():
                said = str(error).removeprefix(what).lstrip(": ")
                print(f"weightcast: left out: {what}: {said}", file=sys.stderr)


def _source(entry: EntryPoint) -> str:
    package = f"package {entry.dist.name}, " if entry.dist else ""
    return f"{package}{entry.group}: {entry.value}"


def _ends(what: str, call: str) -> str:
    return (
        f"{what} calls {call} when it is imported, which would end this command; put that under "
        "if __name__ == '__main__'"
    )


def _is_first_process() -> bool:
    """Tell whether this is the process of a command; a worker repeats what that has said."""
    started = sys.modules.get("multiprocessing.process")  # else nothing has started this process
    return started is None or started.parent_process() is None


@contextmanager
def _noting_interrupts(pressed: list[int]) -> Iterator[None]:
    """Tell Ctrl-C from code that raises the same exception."""
    before = signal.getsignal(signal.SIGINT)
    # The command line's own handler says that it is one that raises, if not at once.
    raises = before is signal.default_int_handler or getattr(before, "raises_interrupt", False)
    if not raises or not _in_main_thread():
        if before is not signal.SIG_IGN:
            pressed.append(0)  # it may have been: somebody else's handler raises it
        yield
        return

    def note(number: int, frame: Any) -> NoReturn:
        pressed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def no_way_out() -> Iterator[None]:
    """Turn calls that would end this process into `WouldEnd`; a child that was forked may end."""
    process = os.getpid()
    inside = True

    def instead(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*arguments: Any, **named: Any) -> Any:
            if inside and os.getpid() == process:
                raise WouldEnd(f"os.{name}")
            return call(*arguments, **named)

        return refuse

    calls = {name: getattr(os, name) for name in _ENDS if hasattr(os, name)}
    for name, call in calls.items():
        setattr(os, name, instead(name, call))
    try:
        yield
    finally:
        inside = False
        for name, call in calls.items():
            setattr(os, name, call)


@contextmanager
def _said_while_slow(what: str) -> Iterator[None]:
    """Say what is being loaded where it takes long, so that an import without end has a name."""
    done = threading.Event()
    began = time.monotonic()

    def say() -> None:
        wait = SLOW
        while not done.wait(wait):
            seconds = time.monotonic() - began
            print(
                f"weightcast: still loading {what} ({seconds:.0f} s); Ctrl-C ends this",
                file=sys.stderr,
                flush=True,
            )
            wait = EVERY

    if not _is_first_process():
        yield
        return
    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        done.set()
