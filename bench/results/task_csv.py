"""Reading a CSV of errors, ``method,task,error``: names are text, and every line must fit.

With a column ``run`` a line is the error of one run, and intervals can redraw runs as those of a
result folder do; ``dataset``, ``rotation``, ``fit`` and ``horizon`` may stand beside it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.results.csv_cells import as_read
from weightcast.bench.results.inference.errors import RunErrors
from weightcast.bench.results.run_csv import ErrorLine, from_lines
from weightcast.datasets.errors import InputError

COLUMNS = ("method", "task", "error")
#: What a line may say beside a run: the data set whose runs they are, by default the task; the
#: rotation that tests the run; which fit of the method, and which horizon.
OF_RUNS = ("run", "dataset", "rotation", "fit", "horizon")
#: What stands for a result that is lacking, beside nothing at all; in any case.
_LACKING = ("", "nan", "na", "null", "none")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class TaskErrors:
    """What a CSV file holds.

    Attributes
    ----------
    methods, tasks : list of str
        In alphabetical order.
    errors : ndarray, shape (methods, tasks)
        NaN where a method has no result.
    """

    methods: list[str]
    tasks: list[str]
    errors: NDArray[np.float64]


def read_errors(path: Path) -> TaskErrors | RunErrors:
    """Read errors of methods on tasks, or on the runs of tasks where there is a column ``run``.

    Parameters
    ----------
    path : Path
        UTF-8, with or without a byte order mark, commas between fields. The first line names the
        columns; beside the three there may be others. An error that is empty, or NaN or NA, is a
        result that the method lacks.

    Raises
    ------
    InputError
        If the file cannot be read, or a line does not fit; with the line's number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            of_runs, lines = _collect(path, _lines(path, csv.reader(file, strict=True)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from None
    return from_lines(path, lines) if of_runs else _task_errors(lines)


def _task_errors(lines: Sequence[ErrorLine]) -> TaskErrors:
    methods = sorted({line.method for line in lines})
    tasks = sorted({line.task for line in lines})
    errors = np.full((len(methods), len(tasks)), np.nan)
    place_of = {name: place for place, name in enumerate(methods)}
    column_of = {name: place for place, name in enumerate(tasks)}
    for line in lines:
        errors[place_of[line.method], column_of[line.task]] = line.error
    return TaskErrors(methods, tasks, errors)


def _lines(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the number of its first line; wholly empty lines are none."""
    begins = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}, line {begins} is not CSV: {error}") from None
        if fields:
            yield begins, fields
        begins = reader.line_num + 1  # type: ignore[attr-defined]


def _collect(path: Path, lines: Iterator[tuple[int, list[str]]]) -> tuple[bool, list[ErrorLine]]:
    """Return whether errors are of runs, and them; what does not fit is refused with its line."""
    _, header = next(lines, (0, []))
    places, beside = _places(path, header)
    first: dict[tuple[str, ...], int] = {}
    found = []
    for number, fields in lines:
        where = f"{path}, line {number}"
        if len(fields) != len(header):
            raise InputError(
                f"{where} has {len(fields)} fields where the header has {len(header)}; "
                "a name with a comma in it stands in double quotes"
            )
        method, task, error = (fields[place] for place in places)
        for name, text in (("method", method), ("task", task)):
            if not text.strip():
                raise InputError(f"{where}: the {name} is empty; name it, or take the line out")
        method, task = as_read(method), as_read(task)
        more = {name: as_read(fields[place]) for name, place in beside.items()}
        if beside and not more["run"].strip():
            raise InputError(f"{where}: the run is empty; name it, or take the line out")
        line = ErrorLine(number, method, task, _error(where, error), **more)
        if line.identity in first:
            raise InputError(
                f"{where}: {method!r} has two errors on {task!r}"
                + f", run {line.run!r}" * bool(beside)
                + f", the other in line {first[line.identity]}; take one out"
            )
        first[line.identity] = number
        found.append(line)
    if not found:
        raise InputError(f"{path} has no rows; it needs method,task,error below a header line")
    return bool(beside), found


def _places(path: Path, header: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Return where the three columns stand, and where those that tell of runs, if ``run`` does."""
    names = [name.strip() for name in header]
    for separator, spoken in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise InputError(f"{path} has {spoken} between its fields; put commas there")
    lacking = [name for name in COLUMNS if name not in names]
    if lacking and {"tier", "metric", "skill"} <= set(names):
        raise InputError(
            f"{path} is a ranking already, as leaderboard --csv writes it; hold your own results "
            f"against it with: weightcast compare {path.parent} DIR"
        )
    if lacking:
        raise InputError(
            f"{path} lacks the column {', '.join(lacking)}; "
            "it needs method,task,error with a header line"
        )
    beside = [name for name in OF_RUNS if name in names] if "run" in names else []
    if twice := [name for name in [*COLUMNS, *beside] if names.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]}; leave one")
    return [names.index(name) for name in COLUMNS], {name: names.index(name) for name in beside}


def _error(where: str, text: str) -> float:
    """Read a finite number of at least 0, NaN for a result that is lacking."""
    written = text.strip()
    if written.casefold() in _LACKING:
        return float("nan")
    value = float(written) if _NUMBER.fullmatch(written) else -1.0
    if not 0 <= value < float("inf"):
        raise InputError(
            f"{where}: the error {text!r} is not a finite number of at least 0; "
            "leave it empty where there is no result"
        )
    return value
