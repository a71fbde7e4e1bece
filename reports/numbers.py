"""Numbers as a reader sees them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate

DASH = "—"
# Between thousands.
THIN = "\N{NARROW NO-BREAK SPACE}"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with some significant digits; what is undefined becomes a dash."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if -4 <= size <= 4:
        rounded = f"{abs(value):,.{max(0, digits - 1 - size)}f}".replace(",", THIN)
    else:
        mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
        rounded = f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return ("−" if value < 0 else "+" if signed else "") + rounded


def fixed(value: float | None, places: int = 2, *, signed: bool = False) -> str:
    """Write a number with fixed decimal places."""
    if value is None or not math.isfinite(value):
        return number(value)
    written = f"{abs(value):.{places}f}"
    if float(written) == 0:
        return written
    return ("−" if value < 0 else "+" if signed else "") + written


def interval(found: Estimate, places: int = 2, *, signed: bool = False) -> str:
    """Write an estimate's interval, or nothing where there is none."""
    if not found.bounded:
        return ""
    lower, upper = (fixed(end, places, signed=signed) for end in (found.lower, found.upper))
    return f"[{lower}, {upper}]"


def seconds(value: float | None) -> str:
    """Write a duration in the unit that fits it."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value >= 1000:
        return f"{count(value)} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value / 1e-6)} µs"


def memory(value: float | None) -> str:
    """Write a number of bytes in binary units."""
    if value is None or not math.isfinite(value):
        return number(value)
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def count(value: float | None) -> str:
    """Write a whole number with thousands apart."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:,.0f}".replace(",", THIN)


def plural(amount: int, one: str, many: str = "") -> str:
    """Write an amount with its noun."""
    return f"{count(amount)} {one if amount == 1 else many or one + 's'}"


def values(column: Any) -> NDArray[np.float64]:
    """Return a column's numbers, without those that are missing."""
    import pandas as pd

    found = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    kept: NDArray[np.float64] = found[~np.isnan(found)]
    return kept


def median(column: Any) -> float:
    """Return the median of what is there; NaN where nothing is."""
    found = values(column)
    return float(np.median(found)) if len(found) else math.nan
