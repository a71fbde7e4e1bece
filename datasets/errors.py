"""The one error that a person can mend: a wrong name, a wrong file, a wrong folder."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument or an input file is wrong; the message is one line that says how to mend it.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


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
