"""The one error that a person can mend: a wrong name, a wrong file, a wrong folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line ends and control characters, of which some make a terminal do things.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class InputError(ValueError):
    """An argument or an input file is wrong; the message is one line that says how to mend it.

    The command line prints the message alone, without a traceback, and exits with status 2.
    Whatever foreign names the message quotes, it stays one line that any terminal can show.

    Parameters
    ----------
    message : object
    several : object
        Where several things are wrong with a file, what each of them is: the command line prints
        them below, a line each.

    Attributes
    ----------
    lines : tuple of str
        The message, and what is printed below it.
    """

    def __init__(self, message: object = "", *several: object) -> None:
        self.lines = tuple(map(_one_line, (message, *several)))
        first, *more = self.lines
        super().__init__(f"{first}: {'; '.join(more)}" if more else first)


def _one_line(message: object) -> str:
    text = _UNPRINTABLE.sub(" ", str(message)).strip()
    # A name out of JSON may hold half a surrogate pair, which no stream can write.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class ChangedMeanwhile(InputError):
    """Data or code are no longer what they were when the work was planned; it is no fault of it."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Make the error for a name that is not registered, naming close matches and every choice.

    Parameters
    ----------
    kind : str
        What the name was meant to be, e.g. ``"method"``.
    name : str
        The name as given.
    choices : iterable of str
        The names that would have been right.
    """
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return InputError(f"unknown {kind} '{name}': {hint}choices are {', '.join(known) or 'none'}")
