"""What recipes train and measure on, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.examples.examples import Examples
from weightcast.datasets.given import GIVEN, given_by

#: Which data need files that `weightcast fetch` gets, and under what name.
FETCHED = {"fashion": "fashion-mnist", "austen": "austen", "movie-reviews": "movie-reviews"}


def _digits() -> Examples:
    from weightcast.datasets.examples.images import digits

    return digits()


def _fashion(train: int | None = None) -> Examples:
    from weightcast.datasets.examples.images import fashion

    return fashion(train)


def _austen() -> Examples:
    from weightcast.datasets.examples.text import austen

    return austen()


def _movie_reviews(**options: Any) -> Examples:
    from weightcast.datasets.examples.sentiment import movie_reviews

    return movie_reviews(**options)


def _given(dataset: str) -> Examples:
    found: Examples = given_by(dataset).examples()
    return found


EXAMPLES: dict[str, Callable[..., Examples]] = {
    "digits": _digits,
    "fashion": _fashion,
    "austen": _austen,
    "movie-reviews": _movie_reviews,
    GIVEN: _given,
}


@cache
def load_examples(name: str, **options: Any) -> Examples:
    """Load data by name.

    Parameters
    ----------
    name : str
    **options
        What the data need beside their name, a tokenizer say.

    Raises
    ------
    InputError
        If the name is not known or has no such option, or if its files have yet to be fetched.
    """
    if name not in EXAMPLES:
        raise unknown("data", name, EXAMPLES)
    try:
        return EXAMPLES[name](**options)
    except TypeError as error:
        raise InputError(f"data {name}: {error}") from None
