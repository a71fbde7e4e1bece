"""What the fork server alone loads: how its children fall silent that nobody waits for.

A worker that is given up while it starts finds that what it was to be handed is gone. It ends, as
it should; its traceback would stand in the middle of the user's table and says nothing of a method.
"""

from __future__ import annotations

import sys
from types import TracebackType


def quiet_start(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say nothing of what a process meets that was given up; anything else is told as usual."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = quiet_start
