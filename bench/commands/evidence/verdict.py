"""From errors where the future is known to a word: use the forecast, don't, or no evidence.

The unit is the run. Over three runs or more there is an interval, and it decides; origins of one
run are not independent, so of one run they have to agree, all of them and at least three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from weightcast.bench.estimate import Estimate

USE, DO_NOT, NO_EVIDENCE = "use", "do not use", "no evidence"

#: Runs that an interval takes, and origins that have to agree where there are fewer.
_FEWEST = 3
#: A loss or error that differs from the last value's by less is the same for all purposes.
MATTERS = 0.01
#: Ratios are held within, as the benchmark's are: one that diverged is bad, not infinitely bad.
_CLIP = (0.01, 100.0)


@dataclass(frozen=True)
class Score:
    """A method's loss or error over the last value's, at one origin of one run.

    Attributes
    ----------
    ratio : float
        Below 1 the forecast is better.
    unit : int
        The run's number; 0 is the run that is to be forecast.
    same_task : bool
        Whether context and horizon are those of the forecast in question.
    """

    ratio: float
    unit: int
    same_task: bool


@dataclass(frozen=True)
class Verdict:
    """What the scores say.

    Attributes
    ----------
    word : str
        `USE`, `DO_NOT` or `NO_EVIDENCE`.
    ratio : Estimate
        The geometric mean over what decided: over runs with a 95 % interval, else over origins,
        with none.
    lowest, highest : float
        Over what decided.
    runs, origins : int
        Runs with context and horizon of the forecast in question, and origins of the run itself.
    better : int
        Origins of the run itself at which the forecast was better than the last value.
    by_runs : bool
        Whether an interval over runs decided.
    contradicted : bool
        Whether the runs said one thing, and all origins of the run itself the other.
    """

    word: str
    ratio: Estimate = field(default_factory=Estimate)
    lowest: float = math.nan
    highest: float = math.nan
    runs: int = 0
    origins: int = 0
    better: int = 0
    by_runs: bool = False
    contradicted: bool = False


def decide(scores: Sequence[Score]) -> Verdict:
    """Decide by the scores of a method.

    Examples
    --------
    >>> decide([Score(ratio, 0, False) for ratio in (0.8, 0.9, 0.7)]).word
    'use'
    >>> decide([Score(0.5, 0, True)]).word
    'no evidence'
    >>> decide([Score(ratio, unit, True) for unit, ratio in enumerate((1.2, 1.3, 1.25))]).word
    'do not use'
    """
    own = [math.log(_clipped(score.ratio)) for score in scores if score.unit == 0]
    by_run: dict[int, list[float]] = {}
    for score in scores:
        if score.same_task:
            by_run.setdefault(score.unit, []).append(math.log(_clipped(score.ratio)))
    runs = [float(np.mean(values)) for values in by_run.values()]
    counted = partial(
        Verdict, runs=len(runs), origins=len(own), better=sum(value < 0 for value in own)
    )
    if len(runs) >= _FEWEST:
        low, mean, high = _interval(runs)
        word = _word(low, high)
        against = {USE: min(own, default=0.0) > 0, DO_NOT: max(own, default=0.0) < 0}
        contradicted = len(own) > 1 and against.get(word, False)
        estimate = Estimate(math.exp(mean), math.exp(low), math.exp(high))
        return counted(
            NO_EVIDENCE if contradicted else word,
            estimate,
            *_ends(runs),
            by_runs=True,
            contradicted=contradicted,
        )
    every = own + [value for unit, values in by_run.items() if unit for value in values]
    if not every:
        return counted(NO_EVIDENCE)
    word = _word(min(every), max(every)) if len(every) >= _FEWEST else NO_EVIDENCE
    return counted(word, Estimate(math.exp(np.mean(every))), *_ends(every))


def _word(low: float, high: float) -> str:
    """Decide by the ends of an interval or a range, in logarithms."""
    slight = math.log1p(MATTERS)
    if high < 0 and low < -slight:
        return USE
    if low > 0 or (low >= -slight and high <= slight):
        return DO_NOT
    return NO_EVIDENCE


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean with its 95 % interval by Student's t, over independent runs."""
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean - half, mean, mean + half


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return math.exp(min(values)), math.exp(max(values))


def _clipped(ratio: float) -> float:
    return min(max(ratio, _CLIP[0]), _CLIP[1])


def ahead(scores: Mapping[str, Sequence[float]], method: str) -> list[tuple[str, int, int]]:
    """Name the methods that did better than one at more than half of the places, with the counts.

    Parameters
    ----------
    scores : mapping of str to sequence of float
        Each method's ratios at the same places, in one order; NaN where it has none.
    method : str
    """
    found = []
    for other, values in scores.items():
        pairs = [
            (theirs, mine)
            for theirs, mine in zip(values, scores[method], strict=True)
            if not math.isnan(theirs + mine)
        ]
        wins = sum(theirs < mine * (1 - MATTERS) for theirs, mine in pairs)
        if other != method and wins > len(pairs) / 2:
            found.append((other, wins, len(pairs)))
    return found
