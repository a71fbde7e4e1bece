"""Where in its author's file a method breaks the contract: ``mine.py:12``.

A line of ours or of a library's helps nobody who writes a method. What is theirs: the module that
defines the class, what lies beside it, and for our own methods their modules in this folder.
"""

from __future__ import annotations

import ast
import linecache
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from weightcast.datasets.trajectory import Floats, Source, TensorInfo, Trajectory

#: Modules of this room that call methods, or are what methods derive from.
_CALLERS = ("contract", "contract_decoys", "contract_places", "contract_toy", "forecaster")
_ROOM = __name__.rpartition(".")[0]
#: What makes the forecast, whichever of them an author wrote.
_FORECAST = ("predict_block", "predict", "look")


def place_of(cls: type, part: str) -> str:
    """Say where a class's author defines a part of it.

    Parameters
    ----------
    cls : type
    part : str
        A method or attribute; ``predict`` stands for whatever makes the forecast. One that the
        author did not write is looked for where the class begins.

    Returns
    -------
    str
        ``file:line``; empty where the source is not at hand.
    """
    for name in _FORECAST if part == "predict" else (part,):
        for base in cls.__mro__:
            if name not in vars(base) or not _is_authors(base.__module__, cls):
                continue
            code = getattr(vars(base)[name], "__code__", None)
            if code is not None:
                return _said(code.co_filename, code.co_firstlineno)
            return _in_source(base, name)
    return _in_source(cls, "")


def place_raised(error: BaseException, cls: type) -> str:
    """Say where in the author's code an error was raised: the deepest such line, or nothing."""
    frames = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if _owns(cls, f)]
    return _said(frames[-1][0].f_code.co_filename, frames[-1][1]) if frames else ""


def _place_now(cls: type) -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if _owns(cls, frame):
            return _said(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


class Watched:
    """Runs that note where a method's author first reads weights of theirs.

    Parameters
    ----------
    cls : type
        The method's class.
    runs : iterable of Trajectory
        They are read through here from now on.

    Attributes
    ----------
    read_at : str or None
        ``file:line``; None as long as nothing was read.
    """

    def __init__(self, cls: type, runs: Iterable[Trajectory]) -> None:
        self.cls = cls
        self.read_at: str | None = None
        self.runs = list(runs)
        for run in self.runs:
            run._source = _WatchedSource(run._source, self)

    def note(self) -> None:
        """Note that weights are being read."""
        if self.read_at is None:
            self.read_at = _place_now(self.cls)


class _WatchedSource:
    def __init__(self, source: Source, watched: Watched) -> None:
        self.source, self.watched = source, watched

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        self.watched.note()
        self.source.read_into(tensor, snapshot, start, out)


def _owns(cls: type, frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith("weightcast."):
        return _is_authors(module, cls)
    home = _file(cls)
    if home is None:
        return module == cls.__module__
    try:
        beside = Path(frame.f_code.co_filename).resolve().relative_to(home.parent)
    except (ValueError, OSError):
        return False
    return "site-packages" not in beside.parts


def _is_authors(module: str, cls: type) -> bool:
    """Whether a module holds what the class's author wrote, seen by its name."""
    if module.startswith("weightcast."):
        room, _, last = module.rpartition(".")
        return room == _ROOM and last not in _CALLERS and cls.__module__.startswith(_ROOM)
    return not module.startswith(("skbase", "builtins"))


def _file(cls: type) -> Path | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if file is None else Path(file).resolve()


def _in_source(cls: type, name: str) -> str:
    """Find an assignment in a class's body, or with no name the class itself."""
    file = _file(cls)
    if file is None:
        return ""
    try:
        tree = ast.parse("".join(linecache.getlines(str(file))))
    except SyntaxError:
        return ""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
    if not found:
        return ""
    for node in found[-1].body:
        targets: list[Any] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if name and any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return _said(str(file), node.lineno)
    return _said(str(file), found[-1].lineno)


def _said(file: str, line: int) -> str:
    """Name a file as one stands to it: from the working folder down, else by its name alone."""
    path = Path(file).resolve()
    try:
        shown = path.relative_to(Path.cwd().resolve())
    except (ValueError, OSError):
        named = path.parts[-2:] if path.name == "__init__.py" else path.parts[-1:]
        shown = Path(*named)
    return f"{shown}:{line}"
