"""Names that a shell completes: suites, methods and data sets."""

from __future__ import annotations

from collections.abc import Iterable


def suites(incomplete: str) -> list[str]:
    """Complete a suite's name."""
    from weightcast.bench.plan.suite import suite_names

    return _beginning(incomplete, suite_names())


def methods(incomplete: str) -> list[str]:
    """Complete the last of several methods between commas."""
    from weightcast.methods import all_methods

    return _last(incomplete, all_methods())


def datasets(incomplete: str) -> list[str]:
    """Complete the last of several data sets between commas."""
    from weightcast.datasets import all_datasets

    return _last(incomplete, all_datasets())


def _last(incomplete: str, names: Iterable[str]) -> list[str]:
    """Complete the last name of a list; those before it are not offered again.

    Examples
    --------
    >>> _last("lfd2,ar", ["ar", "ar1", "lfd2"])
    ['lfd2,ar', 'lfd2,ar1']
    """
    before, comma, last = incomplete.rpartition(",")
    free = set(names) - set(before.split(","))
    return [f"{before}{comma}{name}" for name in _beginning(last, free)]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
