"""Rankings as LaTeX: booktabs tables to put into a paper."""

from __future__ import annotations

import re

from weightcast.bench.printable import printable
from weightcast.reports.formats.document import Document, Sheet

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{INFINITY}": r"\ensuremath{\infty}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\le}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\ge}",
    "\N{RIGHTWARDS ARROW}": r"\ensuremath{\to}",
    "\N{ALMOST EQUAL TO}": r"\ensuremath{\approx}",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{NO-BREAK SPACE}": "~",
    "\N{DAGGER}": r"\dag{}",
}
_EACH = re.compile("|".join(map(re.escape, _SPECIAL)))
# A sign in front of a number is a sign, and no hyphen.
_SIGN = re.compile(r"(?<![\w.)])-(?=\d)")
_PREAMBLE = r"% In the preamble: \usepackage{booktabs}, \usepackage{graphicx}"


def latex(document: Document) -> str:
    """Write a document as LaTeX, a ``table`` a ranking; the lead and notes are comments."""
    parts = [_PREAMBLE, _comment(document.title)]
    parts += [_comment(line) for line in document.lead]
    parts += [_table(sheet) for sheet in document.sheets]
    parts += [_comment(note) for note in document.notes]
    return "\n".join(parts) + "\n"


def _table(sheet: Sheet) -> str:
    head = " & ".join(_text(name) for name in sheet.head)
    rows = "\n".join(" & ".join(_cell(cell) for cell in row) + r" \\" for row in sheet.rows)
    columns = "l" + "r" * (len(sheet.head) - 1)
    return rf"""
\begin{{table}}
\centering
\caption{{{_text(sheet.title[:1].upper() + sheet.title[1:])}.}}
\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{%
\begin{{tabular}}{{{columns}}}
\toprule
{head} \\
\midrule
{rows}
\bottomrule
\end{{tabular}}}}
\end{{table}}
{chr(10).join(_comment(note) for note in sheet.notes)}""".rstrip()


def _cell(text: str) -> str:
    return _text(_SIGN.sub("\N{MINUS SIGN}", text))


def _text(text: str) -> str:
    """Write foreign text in one line, as nothing but text."""
    line = " ".join(printable(text).split(" "))
    return _EACH.sub(lambda found: _SPECIAL[found[0]], line.replace("\n", " "))


def _comment(text: str) -> str:
    return "% " + " ".join(printable(text).split())
