"""A report is made to be passed on: folders of the machine that made it stay out of it."""

from __future__ import annotations

import re

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


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
