"""What a row says of an exception that took its result."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from weightcast.datasets.errors import ChangedMeanwhile


@dataclass(frozen=True)
class Failure:
    """A status, its reason in one line, and where it happened.

    Attributes
    ----------
    again : bool
        Whether the next run is to try again, for the method had no part in it.
    """

    status: str
    reason: str
    traceback: str
    again: bool = False


#: What stands where nothing failed.
NONE = Failure("ok", "", "")


def failure_of(error: BaseException, invalid: type[BaseException] | None = None) -> Failure:
    r"""Describe an exception.

    Parameters
    ----------
    error : BaseException
    invalid : type, optional
        What is raised for a result that there is, but that cannot be used.

    Examples
    --------
    >>> failure_of(MemoryError()).status, failure_of(ValueError("no\nmore")).reason
    ('out-of-memory', 'ValueError: no')
    """
    if isinstance(error, ChangedMeanwhile):
        return Failure("failed", str(error), "", again=True)
    status = "out-of-memory" if isinstance(error, MemoryError) else "failed"
    if invalid is not None and isinstance(error, invalid):
        status = "invalid"
    try:
        said = str(error)
    except Exception:  # a method's exception need not be able to say anything
        said = ""
    reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return Failure(status, reason.splitlines()[0], trace)
