"""The map of rank correlations: data sets by horizons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from weightcast.bench.results.gains import GainCorrelation
from weightcast.bench.results.horizons import spoken
from weightcast.reports.numbers import fixed
from weightcast.reports.plots.shaded import Shade, shaded_map


def correlation_map(
    name: str,
    title: str,
    rows: Sequence[str],
    horizons: Sequence[str],
    found: Mapping[tuple[str, str], GainCorrelation],
) -> Markup | None:
    """Draw correlations; None where none is known.

    Blue where more in weights goes with more in function, orange where it goes with less.

    Parameters
    ----------
    name : str
        Prefix of the SVG's ids.
    title : str
    rows : sequence of str
        Tasks, from the top.
    horizons : sequence of str
        ``h5`` and so on, from the left.
    found : mapping of (row, horizon) to GainCorrelation
    """
    shades = {
        (row, spoken(horizon)): Shade(
            fixed(one.rho.value, signed=True) + "*" * (one.p < 0.05), one.rho.value
        )
        for (row, horizon), one in found.items()
        if one.rho.known
    }
    if not shades:
        return None
    return shaded_map(name, title, rows, [*map(spoken, horizons)], shades, "horizon")
