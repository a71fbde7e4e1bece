"""The families of synthetic problems, by the ``generator`` in a run's recipe."""

from __future__ import annotations

from weightcast.datasets.errors import unknown
from weightcast.datasets.synthetic.bowl import QuadraticBowl
from weightcast.datasets.synthetic.linreg import LinearRegression
from weightcast.datasets.synthetic.logistic import LogisticRegression
from weightcast.datasets.synthetic.problem import Problem, ProblemLoss
from weightcast.datasets.synthetic.streams import random_stream
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
