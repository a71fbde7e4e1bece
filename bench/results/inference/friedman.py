"""Friedman's test over blocks, and which mean ranks differ: Demšar's comparison of many methods.

A block is a data set where there are `FEWEST_SETS` of them or more, else a run, the first so many
of each data set that all weigh alike: then the answer is about further runs of these sets, and not
about further sets. In a block methods are ranked by
their errors, ties sharing theirs. Nemenyi's test compares all pairs of mean ranks; what lies
further apart than the critical difference is clear at 5 %.

Source: Demšar, J. (2006), Statistical comparisons of classifiers over multiple data sets, JMLR 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightcast.bench.results.inference.errors import RunErrors
from weightcast.bench.results.inference.pairwise import LEVEL, Doubles
from weightcast.bench.results.inference.ranking import run_errors, set_errors
from weightcast.datasets.errors import InputError

#: Over fewer blocks the test would hardly ever tell anything.
FEWEST_SETS = 6
#: Two methods are what Wilcoxon's test is for.
FEWEST_METHODS = 3


@dataclass(frozen=True)
class Friedman:
    """Mean ranks of methods over blocks.

    Attributes
    ----------
    methods : list of str
    blocks : int
    of : str
        What a block is: ``data set`` or ``run``.
    sets : int
        How many data sets the blocks are of, as many of each.
    mean_ranks : ndarray, shape (methods,)
        1 is the best.
    statistic, p : float
        Friedman's, with methods − 1 degrees of freedom, corrected for ties; p by the χ²
        distribution.
    pairs : ndarray, shape (methods, methods)
        Nemenyi's p-values; 1 on the diagonal.
    critical_difference : float
        Mean ranks further apart than this differ at 5 %.
    """

    methods: list[str]
    blocks: int
    of: str
    sets: int
    mean_ranks: Doubles
    statistic: float
    p: float
    pairs: Doubles
    critical_difference: float

    @property
    def over(self) -> str:
        """What the blocks are, in words."""
        if self.of == "run" and self.sets > 1:
            return f"{self.blocks} runs, the first {self.blocks // self.sets} of each data set"
        return f"{self.blocks} {self.of}s"

    @property
    def spoken(self) -> str:
        """What came out, in one sentence."""
        head = (
            f"Friedman's test over {self.over}: "
            f"χ²({len(self.methods) - 1}) = {self.statistic:.1f}, p {_spoken_p(self.p)}"
        )
        if self.p >= LEVEL:
            return f"{head}; it does not say that any method differs from any other"
        return (
            f"{head}; mean ranks further apart than {self.critical_difference:.2f} differ at 5 % "
            "(Nemenyi)"
        )


def friedman_runs(errors: RunErrors, baseline: str) -> Friedman | str:
    """Test methods by their errors on runs; failed cells are charged as in a ranking.

    Returns
    -------
    Friedman or str
        The test over data sets or runs, or in a line why there is none.
    """
    try:
        ranked, by_set = set_errors(errors.methods, errors.sets, baseline)
        if by_set.shape[1] >= FEWEST_SETS:
            return friedman(ranked, by_set, "data set", by_set.shape[1])
        ranked, by_run = run_errors(errors.methods, errors.sets, baseline)
        fewest = min(one.shape[1] for one in by_run)
        blocks = np.concatenate([one[:, :fewest] for one in by_run], axis=1)
        return friedman(ranked, blocks, "run", len(by_run))
    except InputError as error:
        return str(error)


def friedman(methods: Sequence[str], errors: Doubles, of: str, sets: int) -> Friedman:
    """Test methods by their errors on blocks.

    Parameters
    ----------
    methods : sequence of str
    errors : ndarray, shape (methods, blocks)
        Finite.
    of : str
        What a block is.
    sets : int
        How many data sets they are of.

    Raises
    ------
    InputError
        If there are too few methods or blocks to tell anything.
    """
    import pandas as pd
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    count, blocks = errors.shape
    if count < FEWEST_METHODS:
        raise InputError(
            f"no Friedman test: it compares {FEWEST_METHODS} methods or more, here are {count}"
        )
    if blocks < FEWEST_SETS:
        raise InputError(f"no Friedman test: it needs {FEWEST_SETS} {of}s, here are {blocks}")
    with np.errstate(invalid="ignore"):  # 0 / 0 where all tie in every block
        statistic, p = friedmanchisquare(*errors)
    pairs = posthoc_nemenyi_friedman(pd.DataFrame(errors.T, columns=list(methods)))
    critical = studentized_range.isf(LEVEL, count, np.inf) / np.sqrt(2)
    return Friedman(
        methods=list(methods),
        blocks=blocks,
        of=of,
        sets=sets,
        mean_ranks=rankdata(errors, axis=0).mean(axis=1),
        statistic=0.0 if np.isnan(statistic) else float(statistic),
        p=1.0 if np.isnan(p) else float(p),
        pairs=pairs.to_numpy(float),
        critical_difference=float(critical * np.sqrt(count * (count + 1) / (6 * blocks))),
    )


def _spoken_p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"
