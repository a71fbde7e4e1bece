"""What every registered method must hold to."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from weightcast.datasets import InputError
from weightcast.methods import CoordinateForecaster, all_methods, make_method, register
from weightcast.methods.code import code_hash
from weightcast.methods.contract import CHECKS, Subject, run_check, under_seed
from weightcast.methods.registry import implementation

NAMES = sorted(all_methods())
#: One of each adapter.
ADAPTED = ("sklearn:Ridge(alpha=1.0)", "sktime:NaiveForecaster(strategy='drift')")


@cache
def _subject(name: str) -> Subject:
    return Subject(name)  # fits once for all its checks


def test_when_the_package_is_loaded_then_the_methods_of_quick_are_registered() -> None:
    assert {
        "last-value", "last-two-line", "ols-line", "damped-line", "lfd2", "lfd2-ols", "lfd2-grad",
        "lfd-full", "arima", "theta", "ar1", "lstm", "transformer", "line-search",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [*NAMES, *ADAPTED])
def test_when_a_method_is_checked_then_it_holds_to_the_contract(name: str, check: str) -> None:
    outcome = run_check(_subject(name), check)
    if outcome.status == "skipped":
        pytest.skip(outcome.reason)
    assert outcome.status == "passed", outcome.reason


@pytest.mark.parametrize(
    "name", [name for name in NAMES if all_methods()[name].get_class_tag("random")]
)
def test_when_a_method_says_that_it_draws_then_another_seed_gives_another_forecast(
    name: str,
) -> None:
    subject = _subject(name)
    one, other = (under_seed(subject, seed) for seed in (1, 2))
    assert any(not np.array_equal(one[tensor], other[tensor]) for tensor in one)


def test_when_a_name_is_malformed_taken_or_no_forecaster_then_it_is_refused() -> None:
    class Other(CoordinateForecaster):
        """Another class."""

    with pytest.raises(InputError, match="kebab-case"):
        register("My_Method")(Other)
    with pytest.raises(InputError, match="registered already"):
        register("last-value")(Other)
    with pytest.raises(InputError, match="is not a"):
        register("a-dict")(dict)  # type: ignore[type-var]


def test_when_a_name_or_parameter_is_misspelt_then_close_matches_are_named() -> None:
    with pytest.raises(InputError, match="did you mean lfd-full"):
        make_method("lfd-ful")
    with pytest.raises(
        InputError, match="unknown parameter of lfd2-grad 'wieght': did you mean weight"
    ):
        make_method("lfd2-grad", {"wieght": 1.0})


def test_when_methods_share_no_code_then_their_code_hashes_differ() -> None:
    hashes = {name: code_hash(all_methods()[name]) for name in NAMES}
    assert len(set(hashes.values())) == len(NAMES)


def test_when_a_published_network_has_a_state_then_its_row_is_its_authors() -> None:
    assert implementation("wnn", {}) == "retrained here"
    assert implementation("wnn", {"state": "published.safetensors"}) == "authors' weights"
    assert implementation("lfd2", {"state": "published.safetensors"}) == "ours"
    assert implementation("sklearn:Ridge", {}) == "library"
    assert implementation("nobodys-plugin", {}) == "?"
