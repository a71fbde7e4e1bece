"""The power of the loop tier: which saving a comparison would have seen, had there been one."""

from __future__ import annotations

import math

from weightcast.bench.estimate import Estimate

#: How often a saving of the size told would have had the verdict ``"faster"``.
POWER = 0.8


def smallest_saving(error: float, null: Estimate, freedom: int) -> float:
    """Return the smallest saving that would have been called faster in 80 of 100 cases.

    It is 1 minus the true ratio of step-equivalents to tuned plain training from which on chance
    leaves that many estimates where `weightcast.bench.loop.verdicts.verdict_of` says ``"faster"``:
    the 95 % interval below 1 and below the null row's ratio, the estimate below the null row's
    interval. The null row counts as it was found.

    Parameters
    ----------
    error : float
        Standard error of the mean log ratio, from the paired differences of log step-equivalents.
    null : Estimate
        The null row's ratio.
    freedom : int
        Degrees of freedom of ``error``; 0 where there are too few seeds.

    Returns
    -------
    float
        Between 0 and 1; NaN without an interval of either.

    Examples
    --------
    >>> round(smallest_saving(0.03, Estimate(1.0, 0.99, 1.01), 46), 3)
    0.082
    >>> smallest_saving(0.03, Estimate(), 46)
    nan
    """
    if not (freedom and null.bounded):
        return math.nan
    from scipy.special import stdtrit

    reach, beyond = (float(stdtrit(freedom, share)) * error for share in (0.975, POWER))
    called = min(-reach, math.log(null.value) - reach, math.log(null.lower))
    return -math.expm1(called - beyond)


def saving_text(saving: float) -> str:
    """Write a saving in whole per cent, rounded up; a dash where there is none.

    Examples
    --------
    >>> saving_text(0.1132), saving_text(math.nan)
    ('12 %', '—')
    """
    return "—" if math.isnan(saving) else f"{math.ceil(100 * saving - 1e-9)} %"
