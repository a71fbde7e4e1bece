"""The families of synthetic problems, by the ``generator`` in a run's recipe."""

from __future__ import annotations

from weightcast.datasets.bowl import QuadraticBowl
from weightcast.datasets.errors import unknown
from weightcast.datasets.linreg import LinearRegression
from weightcast.datasets.logistic import LogisticRegression
from weightcast.datasets.problem import Problem, ProblemLoss
from weightcast.datasets.streams import random_stream
from weightcast.datasets.trajectory import Metadata

FAMILIES: dict[str, type[Problem]] = {
    "bowl": QuadraticBowl,
    "linreg": LinearRegression,
    "logistic": LogisticRegression,
}


def problem_loss(meta: Metadata) -> ProblemLoss:
    """Rebuild the training loss of a synthetic run.

    Raises
    ------
    InputError
        If the recipe names a generator that is not known.
    """
    family = str(meta.recipe["generator"])
    if family not in FAMILIES:
        raise unknown("generator", family, FAMILIES)
    return ProblemLoss(FAMILIES[family].draw(random_stream(meta.dataset, meta.seed, "problem")))
