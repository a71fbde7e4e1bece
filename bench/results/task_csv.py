"""Reading a CSV of errors, ``method,task,error``: names are text, and every line must fit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.results.csv_cells import as_read
from weightcast.datasets.errors import InputError

COLUMNS = ("method", "task", "error")
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


def read_task_errors(path: Path) -> TaskErrors:
    """Read errors of methods on tasks.

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
            found = _collect(path, _lines(path, csv.reader(file, strict=True)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV in UTF-8") from None
    methods = sorted({method for method, _ in found})
    tasks = sorted({task for _, task in found})
    errors = np.full((len(methods), len(tasks)), np.nan)
    place_of = {name: place for place, name in enumerate(methods)}
    column_of = {name: place for place, name in enumerate(tasks)}
    for (method, task), value in found.items():
        errors[place_of[method], column_of[task]] = value
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


def _collect(path: Path, lines: Iterator[tuple[int, list[str]]]) -> dict[tuple[str, str], float]:
    """Return each pair's error; what does not fit is refused with its line."""
    _, header = next(lines, (0, []))
    places = _places(path, header)
    found: dict[tuple[str, str], float] = {}
    first: dict[tuple[str, str], int] = {}
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
        pair = as_read(method), as_read(task)
        if pair in found:
            raise InputError(
                f"{where}: {pair[0]!r} has two errors on {pair[1]!r}, the other in line "
                f"{first[pair]}; take one out"
            )
        found[pair], first[pair] = _error(where, error), number
    if not found:
        raise InputError(f"{path} has no rows; it needs method,task,error below a header line")
    return found


def _places(path: Path, header: Sequence[str]) -> list[int]:
    """Return where the three columns stand."""
    names = [name.strip() for name in header]
    for separator, spoken in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise InputError(f"{path} has {spoken} between its fields; put commas there")
    lacking = [name for name in COLUMNS if name not in names]
    if lacking:
        raise InputError(
            f"{path} lacks the column {', '.join(lacking)}; "
            "it needs method,task,error with a header line"
        )
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]}; leave one")
    return [names.index(name) for name in COLUMNS]


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
