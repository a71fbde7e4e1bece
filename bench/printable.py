"""Foreign text on a terminal: as it is, but for what would steer the terminal."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""Write control characters, line ends among them, as escapes; the rest stays.

    Examples
    --------
    >>> printable("ridge[a]"), printable("a\nb\x1b[31m")
    ('ridge[a]', 'a\\nb\\x1b[31m')
    """
    if text.isprintable():
        return text
    return "".join(_escaped(letter) if _steers(letter) else letter for letter in text)


def _steers(letter: str) -> bool:
    # Controls, direction overrides and lone surrogates; ends of lines and paragraphs.
    return unicodedata.category(letter)[0] == "C" or unicodedata.category(letter) in ("Zl", "Zp")


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
