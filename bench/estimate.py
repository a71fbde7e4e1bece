"""A number that was estimated, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; bounds are NaN where there is no interval.

    Attributes
    ----------
    value, lower, upper : float

    Examples
    --------
    >>> Estimate(0.5, 0.4, 0.7).bounded, Estimate(0.5).bounded, Estimate().known
    (True, False, False)
    """

    value: float = math.nan
    lower: float = math.nan
    upper: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.lower) or math.isnan(self.upper))

    def columns(self, name: str) -> dict[str, float]:
        """Return the three numbers under the names that tables have for them.

        Examples
        --------
        >>> Estimate(2.0, 1.0, 3.0).columns("skill")
        {'skill': 2.0, 'skill_lower': 1.0, 'skill_upper': 3.0}
        """
        return {name: self.value, f"{name}_lower": self.lower, f"{name}_upper": self.upper}
