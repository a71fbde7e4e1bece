"""The one place where the bytes of a stranger's file become plain values, or one line.

A file that somebody else wrote, or that a disk has damaged, may ask for anything: a list nested a
hundred thousand deep, a number of five thousand digits, a name that the file system does not take,
more memory than there is. Whatever reading it raises leaves `foreign` as an `InputError` that names
the file. What the values must look like stand in the models beside: `described`, `safetensors`,
`trainer_state`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError

#: Characters of a foreign name that a message quotes.
_SHOWN = 60


@contextmanager
def foreign(path: Path, what: str, mend: str = "save it again") -> Iterator[None]:
    """Turn what reading a file of somebody else raises into an `InputError`.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it was taken for, e.g. ``"an index of shards"``.
    mend : str
        What to do.

    Examples
    --------
    >>> with foreign(Path("x.json"), "a list"):
    ...     [][0]
    Traceback (most recent call last):
    weightcast.datasets.errors.InputError: x.json is not a list (list index out of range); save ...
    """
    try:
        yield
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path} is not {what} (it is nested too deeply); {mend}") from None
    except MemoryError:
        raise InputError(f"{path} asks for more memory than there is; {mend}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # damaged bytes make parsers raise anything
        raise InputError(f"{path} is not {what} ({reason(error)}); {mend}") from None


def reason(error: Exception) -> str:
    """Say what was wrong in a few words: of a model, the first field and its fault."""
    import pydantic

    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(clipped(str(part)) for part in first["loc"])
        given = first["input"]
        # A container would repeat half of the file.
        said = "" if isinstance(given, dict | list | tuple) else f", not {clipped(repr(given))}"
        fault = first["msg"].removeprefix("Value error, ")
        return f"{place}: {fault}{said}" if place else fault
    if isinstance(error, KeyError):
        return f"it lacks {clipped(str(error))}"
    return clipped(str(error) or type(error).__name__, 200)


def clipped(text: str, most: int = _SHOWN) -> str:
    """Cut a long foreign text, so that a message stays readable.

    Examples
    --------
    >>> clipped("a" * 100, 5)
    'aaaaa…'
    """
    return text if len(text) <= most else text[:most] + "…"


def parse_json(data: bytes) -> Any:
    """Read JSON in which no key stands twice and every string is text.

    Raises
    ------
    ValueError
        If it is not; `foreign` around it names the file.
    """
    value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    if b"\\u" in data:
        # Half a surrogate pair is legal in JSON and no text anywhere else.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_json(path: Path, most_bytes: int) -> Any:
    """Read a JSON file of at most so many bytes; call it within `foreign`."""
    if path.stat().st_size > most_bytes:
        raise ValueError(f"it is larger than {most_bytes:,} bytes")
    return parse_json(path.read_bytes())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {clipped(repr(twice))} stands twice")
    return found
