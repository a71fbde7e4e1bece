"""`quadratic-bowl`: gradient descent in an ill-conditioned quadratic of 50 dimensions.

Every run is a new bowl and a new start. The loss is L(w) = ½ (w − w*)ᵀ H (w − w*), so

    w_{t+1} = w_t − η H (w_t − w*),   w_t − w* = (I − ηH)ᵗ (w_0 − w*) ,

and along an eigenvector of eigenvalue λ the distance from the optimum shrinks by c = 1 − ηλ a step.
Nothing is random after the start: a forecast can be exact.

Per run: H = Q diag(λ) Qᵀ with a random rotation Q and λ spaced evenly in logarithm from λ₁ / 1000
to λ₁, itself log-uniform in [0.2, 1] so that no single linear law fits all runs; w* ~ N(0, I);
w_0 ~ N(0, 4I); η = 1, 100 steps, every step recorded. Steep directions have settled before a
context ends, flat ones have hardly moved by the end.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from weightcast.datasets.rates import constant
from weightcast.datasets.synthetic.generator import Generator
from weightcast.datasets.synthetic.problem import Problem, Rows
from weightcast.datasets.synthetic.updates import Doubles, GradientDescent
from weightcast.datasets.trajectory import TensorInfo

DIMENSIONS, CONDITION, STEPS, RATE = 50, 1000.0, 100, 1.0


class QuadraticBowl(Problem):
    """One run's bowl.

    Parameters
    ----------
    rotation : ndarray, shape (d, d)
        Eigenvectors, one a column.
    eigenvalues : ndarray, shape (d,)
    lowest : ndarray, shape (d,)
        The optimum.
    """

    tensors: ClassVar[tuple[TensorInfo, ...]] = (TensorInfo("weight", (DIMENSIONS,), "other"),)
    settings: ClassVar[dict[str, Any]] = {"dimensions": DIMENSIONS, "condition": CONDITION}

    def __init__(self, rotation: Doubles, eigenvalues: Doubles, lowest: Doubles) -> None:
        self.rotation = rotation
        self.eigenvalues = eigenvalues
        self.hessian = rotation * eigenvalues @ rotation.T
        self._lowest = lowest

    @classmethod
    def draw(cls, random: np.random.Generator) -> Self:
        rotation, triangle = np.linalg.qr(random.standard_normal((DIMENSIONS, DIMENSIONS)))
        # Without the signs the distribution over rotations would not be uniform (Mezzadri 2007).
        rotation = rotation * np.sign(np.diag(triangle))
        steepest = np.exp(random.uniform(np.log(0.2), 0.0))
        eigenvalues = steepest * np.geomspace(1 / CONDITION, 1, DIMENSIONS)
        return cls(rotation, eigenvalues, random.standard_normal(DIMENSIONS))

    @classmethod
    def start(cls, random: np.random.Generator) -> Doubles:
        return 2.0 * random.standard_normal(DIMENSIONS)

    def gradient(self, w: Doubles, rows: Rows = None) -> Doubles:
        gradient: Doubles = (w - self._lowest) @ self.hessian
        return gradient

    def loss(self, w: Doubles) -> Doubles:
        along = (w - self._lowest) @ self.rotation
        return np.asarray(0.5 * (along**2 * self.eigenvalues).sum(axis=-1))

    @property
    def optimum(self) -> Doubles:
        return self._lowest

    def truth(self) -> dict[str, Any]:
        return {**super().truth(), "eigenvalues": self.eigenvalues.tolist()}


QUADRATIC_BOWL = Generator(
    "quadratic-bowl", "bowl", QuadraticBowl, GradientDescent(), constant(RATE, STEPS)
)
