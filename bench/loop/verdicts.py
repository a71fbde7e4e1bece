"""What the loop tier says of a method: its standing on a data set, and over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.costs import Configuration
from weightcast.bench.loop.grid_ends import GridEnd
from weightcast.bench.loop.targets import Target

FASTER, SLOWER, SAME = "faster", "slower", "not distinguishable"
EDGE = "refused: best learning rate at the edge of the grid"
LENGTH_EDGE = "refused: best length at the edge of the lengths"
WINDOW_EDGE = "refused: best window of the average at the edge of the windows"
NO_NULL = "refused: no null row"
UNREACHED = "refused: no run reaches the target"
FEW_SEEDS = "refused: too few seeds"
FAILED = "refused: more than 5 % of its runs failed"
#: The share of its runs that may fail before a method has no verdict and stands below the others.
MOST_FAILED = 0.05


@dataclass(frozen=True)
class LoopStanding:
    """One method against plain training on one data set, both tuned.

    A mean over "scored" runs takes every validation and report seed once, at the configuration that
    was chosen on the other role's seeds.

    Attributes
    ----------
    dataset, label, readout : str
    target : Target
    ratio : Estimate
        Geometric mean of the method's cost over plain's, seed by seed.
    null : Estimate
        The ratio of plain training with other batches, tuned like any method; unknown where there
        is no such row.
    verdict : str
        As `verdict_of` says.
    smallest_saving : float
        Which saving would have been called faster in 80 of 100 cases: 0.12 where plain training's
        step-equivalents less 12 % would have been; NaN where the verdict is refused.
    edge : bool
        Whether either side's choice, on either role's seeds, is the lowest or highest learning rate
        of its optimizer. An optimum may then lie outside the grid, and there is no verdict.
    length_edge : bool
        Whether the method's choice, on either role's seeds, is the shortest or the longest of
        several lengths; of a read-out, horizons.
    window_edge : bool
        Whether either side's choice, on either role's seeds, is the shortest or the longest of
        several windows of the moving average; raw weights beside them are no edge.
    untuned : tuple of GridEnd
        Arms of the pool whose own best learning rate, for plain training or for the method, ends
        its grid. No reason to refuse where what was chosen is another arm's inner optimum; to be
        said beside the verdict, for a better rate beyond could change it.
    same_rate : Estimate
        The method against plain training at the method's own optimizer, schedule and learning rate,
        the usual comparison.
    uses : dict of int to float
        Ratio when the costs of fitting are shared by so many uses.
    fit_cost : float
        Step-equivalents of fitting, the mean over scored runs.
    break_even : float
        Uses after which the step-equivalents saved have paid for the fit; inf where none are saved.
    steps_mean, plain_steps_mean : float
        Mean of restricted step-equivalents over scored runs.
    seconds_mean, plain_seconds_mean : float
    misses, failures, plain_misses : int
        Scored runs that never reach the target; failures are among the misses.
    runs : int
        Scored runs.
    harmful : float
        Share of the scored runs' jumps, accepted or not, after which the loss was higher; NaN
        without jumps.
    accepted : float
        Share of the scored runs' jumps that were taken: 1 where every jump is, less under
        ``if-better``; NaN without jumps.
    jump_change : float
        Median of the train loss after a jump minus that before it.
    configuration, plain_configuration : Configuration
        What each side chose on the validation seeds.
    swapped_configuration, plain_swapped_configuration : Configuration
        What each side chose on the report seeds.
    configurations, plain_configurations : int
        How many each side chose from.
    left_out : str
        What of the pool and the seeds is not done on both sides yet, and so not in; empty mostly.
    """

    dataset: str
    label: str
    readout: str
    target: Target
    ratio: Estimate
    null: Estimate
    verdict: str
    smallest_saving: float
    edge: bool
    length_edge: bool
    window_edge: bool
    untuned: tuple[GridEnd, ...]
    same_rate: Estimate
    uses: dict[int, float]
    fit_cost: float
    break_even: float
    steps_mean: float
    plain_steps_mean: float
    seconds_mean: float
    plain_seconds_mean: float
    misses: int
    failures: int
    plain_misses: int
    runs: int
    harmful: float
    accepted: float
    jump_change: float
    configuration: Configuration
    plain_configuration: Configuration
    swapped_configuration: Configuration
    plain_swapped_configuration: Configuration
    configurations: int
    plain_configurations: int
    left_out: str


@dataclass(frozen=True)
class LoopSummary:
    """One method over data sets; what has the name of a field of `LoopStanding` means the same.

    Attributes
    ----------
    ratio : Estimate
        Geometric mean of the data sets' ratios; the draws of data sets are independent.
    null : Estimate
        Over the same data sets.
    edge, length_edge, window_edge : bool
        Whether any of its data sets is flagged.
    datasets : tuple of str
    """

    label: str
    readout: str
    kind: str
    target: str
    ratio: Estimate
    null: Estimate
    verdict: str
    smallest_saving: float
    edge: bool
    length_edge: bool
    window_edge: bool
    datasets: tuple[str, ...]
    misses: int
    failures: int
    runs: int


def break_even(fit: float, saved: float) -> float:
    """Return the uses after which savings pay for a fit.

    Parameters
    ----------
    fit : float
        Step-equivalents of fitting.
    saved : float
        Step-equivalents saved in one use.

    Examples
    --------
    >>> break_even(300.0, 60.0), break_even(0.0, 60.0), break_even(0.0, -1.0)
    (5.0, 0.0, inf)
    """
    return fit / saved if saved > 0 else np.inf


def failed_too_often(failures: int, runs: int) -> bool:
    """Whether a method has too many failed runs for a place among the others."""
    return failures > MOST_FAILED * runs


def verdict_of(
    ratio: Estimate,
    null: Estimate,
    edge: bool,
    reached: bool,
    length_edge: bool = False,
    window_edge: bool = False,
) -> str:
    """Say whether a method differs from plain training and from the null row.

    It is ``"faster"`` where its whole interval lies below 1 and below the null row's ratio, and its
    ratio below the null row's interval; ``"slower"`` where they lie above; else ``"not
    distinguishable"``, or ``"refused: ..."``.

    Below 1 too: a method that changes nothing has an interval without width, and would otherwise be
    faster or slower than a null row that is unlucky or lucky. Outside the null row's interval too:
    a method that trains on plain training's own batches has a narrower interval than the null row,
    and what a few per cent are worth that other batches would have given or taken is not told by
    so few seeds and so coarse a grid of learning rates.

    Where the best length is the shortest or longest tried, a better one may lie beyond. Only the
    method has lengths, so it is not ahead for that: ``"faster"`` stands, all else is refused.
    """
    if why := _refused(ratio, null, edge, window_edge, reached):
        return why
    if ratio.upper < min(1.0, null.value) and ratio.value < null.lower:
        return FASTER
    if length_edge:
        return LENGTH_EDGE
    slower = ratio.lower > max(1.0, null.value) and ratio.value > null.upper
    return SLOWER if slower else SAME


def _refused(ratio: Estimate, null: Estimate, edge: bool, window_edge: bool, reached: bool) -> str:
    """Say why no verdict can be had, whichever it would be; nothing where one can."""
    if edge or window_edge:
        return EDGE if edge else WINDOW_EDGE
    if not reached:
        return UNREACHED
    if not null.known:
        return NO_NULL
    return "" if ratio.bounded and null.bounded else FEW_SEEDS
