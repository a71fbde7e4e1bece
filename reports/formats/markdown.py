"""Rankings as Markdown, with tables as GitHub and GitLab read them."""

from __future__ import annotations

import re

from weightcast.bench.printable import printable
from weightcast.reports.formats.document import Document, Sheet

# What would be read as more than text: marks of emphasis, code, links, HTML, and ends of cells.
_MARKS = re.compile(r"([\\`*_\[\]<>|~#&])")


def markdown(document: Document) -> str:
    """Write a document as Markdown."""
    parts = [f"# {_text(document.title)}", *(_text(line) for line in document.lead)]
    for sheet in document.sheets:
        parts += [f"## {_text(sheet.title)}", _table(sheet), _notes(sheet.notes)]
    parts.append(_notes(document.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(sheet: Sheet) -> str:
    align = [":--", *["--:"] * (len(sheet.head) - 1)]
    lines = [[_text(name) for name in sheet.head], align]
    lines += [[_text(cell) for cell in row] for row in sheet.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _notes(notes: list[str]) -> str:
    return "\n".join(f"- {_text(note)}" for note in notes)


def _text(text: str) -> str:
    """Write foreign text in one line, as nothing but text."""
    return _MARKS.sub(r"\\\1", " ".join(printable(text).split()))
