"""Texts in CSV files: a spreadsheet must not take a name for a formula.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe in
front, by which spreadsheets know a text; so does one that has such a beginning behind apostrophes
of its own. `as_read` takes that one apostrophe away again, so that names come back as they were.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def as_written(text: str) -> str:
    """Return a text as it stands in a CSV file.

    Examples
    --------
    >>> as_written("=1+2"), as_written("'-x"), as_written("ols-line"), as_written("'quoted'")
    ("'=1+2", "''-x", 'ols-line', "'quoted'")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def as_read(text: str) -> str:
    """Return the text that `as_written` wrote.

    Examples
    --------
    >>> as_read("'=1+2"), as_read("''-x"), as_read("-x"), as_read("'quoted'")
    ('=1+2', "'-x", '-x', "'quoted'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV, texts in it as `as_written`; numbers stay as they are."""
    return str(_guarded(table).to_csv(index=False))


def _guarded(table: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name in table.columns if not _is_numeric(table[name])]
    return table.assign(**{name: table[name].map(_cell) for name in texts})


def _is_numeric(column: pd.Series) -> bool:
    return bool(column.dtype.kind in "biufc")


def _cell(value: Any) -> Any:
    return as_written(value) if isinstance(value, str) else value
