"""Results are made to be passed on: folders of the machine that made them stay out of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

_QUOTED = re.compile(r'File "([^"]*)"')
_PATH = re.compile(r"""(?<![\w.:/\\-])(?:~|[A-Za-z]:)?(?:[/\\][^/\\\s"'`,:;()<>\[\]]+){2,}""")


def without_folders(text: str) -> str:
    """Cut absolute paths down to their last part.

    Examples
    --------
    >>> without_folders("weightcast run --suite quick --out /home/someone/results/q")
    'weightcast run --suite quick --out q'
    """
    text = _QUOTED.sub(lambda found: f'File "{_last(found[1])}"', text)
    return _PATH.sub(lambda found: _last(found[0]), text)


def command_without_folders(arguments: Iterable[str]) -> str:
    """Join a command's arguments for a shell, absolute paths cut down to their last part.

    Examples
    --------
    >>> command_without_folders(["run", "--out", "/home/some one/q", "--data=/tmp/d"])
    'run --out q --data=d'
    """
    return " ".join(shlex.quote(_argument(argument)) for argument in arguments)


def _argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if not (equals and option.startswith("--")):
        option, equals, value = "", "", argument
    path = PurePath(value)
    if path.is_absolute() or value.startswith("~"):
        value = path.name or "."
    return option + equals + without_folders(value)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
